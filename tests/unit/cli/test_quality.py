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


def test_labels_of_a_table_and_what_is_wrong_with_them(call, tmp_path: Path):
    pytest.importorskip("sklearn")
    rows = [f'"The {WORDS[n % 4]} and the {WORDS[n % 3]} of text {n}.",{n % 2}\n' for n in range(40)]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(rows) + "one field\n")
    answer = call("curate", str(tmp_path / "a.csv"), "--fit-classifier", str(tmp_path / "c"), "--json")
    measured = json.loads(answer.out)
    assert measured["texts"] == 40 and measured["problems"] == 1
    assert "1 problems in the labels, the first: " in answer.err and "a.csv, line 42" in answer.err
    (tmp_path / "b.csv").write_text("text,label\nwords,good\n")
    assert "not 0 or 1" in call.mistake("curate", str(tmp_path / "b.csv"), "--fit-classifier", str(tmp_path / "c"))


def test_a_model_of_ours_scores_calibrated(call, tmp_path: Path):
    rows = [{"text": f"The {WORDS[n % 4]} and the {WORDS[n % 3]} of text {n}.", "label": n % 2} for n in range(60)]
    for name, part in (("learnt", rows[:30]), ("other", rows[30:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    learnt, other = str(tmp_path / "learnt.jsonl"), str(tmp_path / "other.jsonl")
    home = ("--home", str(tmp_path / "h"), "--quiet")
    call(
        "curate", learnt, "--set", 'curate.metadata_fields=["label"]', "--set", "curate.validation_fraction=0.2", *home
    )
    few = ("--minutes", "0.01", "--set", "train.net.family=mean", "--set", "train.net.hidden_size=32")
    call("tokenize", *home)
    kind = ("--objective", "classes", "--field", "label")
    trained = json.loads(call("train", *kind, *few, "--json", *home).out)
    scored = ("--score-with", trained["id"], "--label", "1", "--scores", str(tmp_path / "s.jsonl"))
    answer = call("curate", other, *scored, "--calibrate", other, "--json", *home)
    assert "calibrated on 30 texts: error " in answer.err
    assert json.loads(answer.out)["metrics"]["documents"]
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 30
    assert "--score-with MODEL" in call.mistake("curate", other, "--calibrate", other)
