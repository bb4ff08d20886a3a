"""`bloomery train`: an encoder that fills blanks, tuned further for labels, through the command line."""

from __future__ import annotations

import json

import pytest

SHORT = [
    *("--set", "tokenizer.vocab_size=320"),
    *("--set", "train.context_length=32"),
    *("--set", "train.fit.steps=6"),
    *("--set", "train.fit.batch_rows=4"),
    *("--set", "train.fit.device=cpu"),
]
SMALL = [*SHORT, *("--set", "train.net.hidden_size=32"), *("--set", "train.net.num_hidden_layers=1")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("train")
    rows = [{"text": f"{word} day number {n}", "label": word} for n in range(60) for word in ("good", "bad")]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_blanks_then_labels(call, home):
    where = ("--home", str(home / "h"))
    fields = ("--set", 'curate.metadata_fields=["label"]', "--set", "curate.decontaminate_words=0")
    call("curate", str(home / "rows.jsonl"), *fields, *where)
    masked = json.loads(call("train", "--objective", "masked", *SMALL, *where, "--json").out)
    assert masked["kind"] == "encoder" and masked["metrics"]["objective"] == "masked"
    told = call("train", "--objective", "classes", "--start", masked["name"], *SHORT, *where).out
    assert "6 steps" in told and "validation: accuracy" in told
    again = call("train", "--objective", "masked", *SMALL, *where, "--json")
    assert json.loads(again.out)["id"] == masked["id"]


def test_mistakes(call, home, tiny):
    where = ("--home", str(tiny.home))
    assert "did you mean" in call.mistake("train", "--objective", "maskd", *where)
    for verb in (("train",), ("inspect", "batch")):
        told = call.mistake(*verb, "--start", "not-there", "--set", "train.net.family=mean", *where)
        assert '"train.net.family" is for a model from random weights' in told
    assert 'no field "label"' in call.mistake("train", "--objective", "classes", *SMALL, *where)
