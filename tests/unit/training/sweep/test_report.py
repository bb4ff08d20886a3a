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


ROWS = (
    _row(0, "finished", 2.5, 1.0, 100.0, rate=0.5),
    _row(1, "stopped", None, 0.1, 10.0, rate=8.0),
    _row(2, "finished", 2.25, 1.0, 100.0, rate=1.0),
    _row(3, "failed", None, 0.4, 40.0, rate=99.0),
)


def test_sums():
    report = SweepReport(metric="validation_bits_per_byte", rows=ROWS)
    assert report.best is ROWS[2] and report.joules.central == 250.0 and report.joules.method == "counter"
    # The stopped one would have used ten times as much; the one that failed would have failed again.
    assert report.full_joules.central == pytest.approx(340.0) and report.full_joules.method == "estimated"
    assert report.saved == pytest.approx(1 - 250 / 340)
    assert json.loads(json.dumps(report.to_dict()))["best"] == {
        "number": 2,
        "values": {"pretrain.rate": 1.0},
        "value": 2.25,
    }


def test_unknown_joules_stay_unknown():
    report = SweepReport(metric="m", rows=(*ROWS, _row(4, "finished", 2.4, 1.0, None, rate=2.0)))
    assert report.saved is None and not report.joules.known
    assert "energy unknown" in "\n".join(table(report))


def test_table():
    lines = table(SweepReport(metric="validation_bits_per_byte", rows=ROWS))
    assert lines[0].split() == ["trial", "rate", "validation", "bits", "per", "byte", "state", "steps", "energy"]
    assert [line.split()[0] for line in lines[1:5]] == ["2", "0", "1", "3"]
    assert lines[5] == "4 trials: 2 finished, 1 stopped, 1 failed; energy 250 J, counter"
    assert "saved 26%" in lines[6] and lines[7].endswith("model-0123456789ab: --set pretrain.rate=1")


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
