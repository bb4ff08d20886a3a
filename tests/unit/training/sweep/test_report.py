"""The report: sums of joules, what stopping saved, the table."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest

from bloomery.core.config import parse_scalar
from bloomery.core.quantity import Quantity
from bloomery.training.sweep.report import SweepReport, TrialRow, table


def _row(number, state, value, share, joules, **values):
    quantity = Quantity.unknown() if joules is None else Quantity.exact(joules, "counter")
    artifact = "model-0123456789ab" if state == "finished" else ""
    given = {f"pretrain.{key}": one for key, one in values.items()}
    return TrialRow(
        number=number,
        values=given,
        state=state,
        value=value,
        share=share,
        seconds=1.0,
        joules=quantity,
        artifact=artifact,
    )


def _of_it(row, train, fixed, runs=1):
    """Of the row's joules, what was training, and what else its first run used."""
    train_joules, fixed_joules = (Quantity.exact(joules, "counter") for joules in (train, fixed))
    named = tuple(f"run{n}" for n in range(runs))
    return replace(row, train_joules=train_joules, fixed_joules=fixed_joules, runs=named)


ROWS = (
    _row(0, "finished", 2.5, 1.0, 100.0, rate=0.5),
    _of_it(_row(1, "stopped", None, 0.1, 10.0, rate=8.0), 8.0, 2.0),
    _row(2, "finished", 2.25, 1.0, 100.0, rate=1.0),
    _row(3, "failed", None, 0.4, 40.0, rate=99.0),
)


def test_sums():
    report = SweepReport(metric="validation_bits_per_byte", rows=ROWS)
    assert report.best is ROWS[2] and report.joules.central == 250.0 and report.joules.method == "counter"
    # The stopped one's training would have used ten times as much; the one that failed would have failed again.
    assert report.full_joules.central == pytest.approx(322.0) and report.full_joules.method == "estimated"
    assert report.saved == pytest.approx(1 - 250 / 322)
    assert json.loads(json.dumps(report.to_dict()))["best"] == {
        "number": 2,
        "values": {"pretrain.rate": 1.0},
        "value": 2.25,
    }


def test_what_is_paid_once_is_not_scaled():
    stopped = _row(0, "stopped", None, 0.5, 20.0)
    assert stopped.full_joules.central == 20.0  # what was training is not known: rather too little
    # In two runs, of which each had four joules beside its training.
    assert _of_it(stopped, 12.0, 4.0, runs=2).full_joules.central == pytest.approx(28.0)
    paused = _row(1, "finished", 2.0, 1.0, 112.0)
    assert _of_it(paused, 100.0, 4.0, runs=3).full_joules.central == pytest.approx(104.0)
    assert _of_it(paused, 100.0, 12.0).full_joules is paused.joules
    assert _of_it(replace(stopped, state="failed"), 12.0, 8.0).full_joules.central == 20.0


def test_unknown_joules_stay_unknown():
    report = SweepReport(metric="m", rows=(*ROWS, _row(4, "finished", 2.4, 1.0, None, rate=2.0)))
    assert report.saved is None and not report.joules.known
    assert "energy unknown of 1, of the others 250 J, counter" in "\n".join(table(report))
    nothing = SweepReport(metric="m", rows=(_row(4, "failed", None, 0.0, None),))
    assert table(nothing)[-1].endswith("energy unknown")
    assert json.loads(json.dumps(nothing.to_dict()))["trials"][0]["train_joules"]["method"] == "unknown"


def test_table():
    lines = table(SweepReport(metric="validation_bits_per_byte", rows=ROWS))
    assert lines[0].split() == ["trial", "rate", "validation", "bits", "per", "byte", "state", "steps", "energy"]
    assert [line.split()[0] for line in lines[1:5]] == ["2", "0", "1", "3"]
    assert lines[5] == "4 trials: 2 finished, 1 stopped, 1 failed; energy 250 J, counter"
    assert "saved 22%" in lines[6] and lines[7].endswith("model-0123456789ab: --set pretrain.rate=1")


def test_the_best_can_be_made_again_and_a_failure_says_why():
    """`--set` has every digit, and what a shell and TOML would take for something else in quotes."""
    values = {"pretrain.rate": 0.0123456789, "pretrain.fast": True, "pretrain.text": "a b", "pretrain.name": "adamw"}
    best = replace(_row(0, "finished", 2.0, 1.0, 1.0), values={**values, "pretrain.digits": "1"})
    failed = replace(_row(1, "failed", None, 0.0, 1.0), values=values, note="no room")
    lines = table(SweepReport(metric="m", rows=(best, failed)))
    assert lines[2].endswith("J, counter  no room")
    words = shlex.split(lines[-1].partition(": --set ")[2])[::2]
    given = dict(word.split("=", 1) for word in words)
    assert {key: parse_scalar(text) for key, text in given.items()} == best.values
    assert "--set pretrain.name=adamw" in lines[-1]


def test_nothing_finished():
    report = SweepReport(metric="m", rows=ROWS[3:])
    assert report.best is None and table(report)[-1].startswith("1 trials: 1 failed")
