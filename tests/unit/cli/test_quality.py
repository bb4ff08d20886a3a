"""`bloomery curate --fit-classifier` and `--classifier`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

WORDS = ("furnace", "bellows", "ore", "charcoal")


def test_a_classifier_is_fitted_and_used(call, tmp_path: Path):
    pytest.importorskip("sklearn")
    source = tmp_path / "a.jsonl"
    rows = [{"text": f"The {WORDS[n % 4]} and the {WORDS[n % 3]} of text {n}.", "label": n % 2} for n in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    home = ("--home", str(tmp_path / "h"), "--quiet")
    measured = json.loads(call("curate", str(source), "--fit-classifier", str(tmp_path / "c"), "--json", *home).out)
    assert measured["texts"] == 40 and "reliability" in measured
    made = call(
        "curate", str(source), "--classifier", str(tmp_path / "c"), "--set", "rules.classifier=0.0", "--json", *home
    )
    assert json.loads(made.out)["metrics"]["dropped"] == {}
