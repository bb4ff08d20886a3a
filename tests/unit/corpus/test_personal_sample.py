"""The built sample: its spans hold what they say, and its measures are those of the textbook."""

from __future__ import annotations

import pytest

from bloomery.corpus.identifiers import NATIONAL
from bloomery.corpus.personal_sample import build, main, measure


def test_spans_hold_valid_values_and_the_same_seed_gives_the_same():
    sample = build(5, each=2)
    kinds = {one.kind for _, known in sample.texts for one in known}
    assert kinds == {"email", "ip", "phone", "card", "iban", "national_id", "secret"}
    for text, known in sample.texts:
        for one in known:
            if one.kind == "national_id":
                assert NATIONAL[one.what](text[one.start : one.end])
    assert build(5, each=2).texts == sample.texts != build(6, each=2).texts
    assert sum(not known for _, known in sample.texts) >= 2 * 25


def test_precision_and_recall_on_forms_stay_high():
    counts = measure(build(11, each=10).texts)["all"]
    assert counts["hits"] / counts["reported"] > 0.98 and counts["hits"] / counts["there"] > 0.98


def test_the_command_prints_both_parts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["personal_sample", "2"])
    monkeypatch.setattr("bloomery.corpus.personal_sample.build.__defaults__", (0, 1))
    assert main() == 0
    out = capsys.readouterr().out
    assert "hard texts" in out and "precision" in out and "national_id" in out
