"""`bloomery inspect batch`: the labels that training would make, in words and as data."""

from __future__ import annotations

import json

SMALL = [
    *("--set", "tokenizer.vocab_size=320"),
    *("--set", "train.context_length=32"),
    *("--set", "train.net.hidden_size=32"),
    *("--set", "train.net.num_hidden_layers=1"),
    *("--set", "train.fit.batch_rows=4"),
]
ROOM = ("--set", "tokenizer.vocab_size=500")  # 100 sentinels beside the 256 bytes


def test_blanks_are_visible(call, tiny):
    where = ("--home", str(tiny.home), *SMALL)
    data = json.loads(call("inspect", "batch", "--objective", "masked", "--rows", "1", *where, "--json").out)
    assert data["rows"] == 4 and len(data["shown"]) == 1
    cells = data["shown"][0]["inputs"]["input_ids"]
    blanks = [cell for cell in cells if cell["label"]]
    assert blanks and all(cell["text"] == "<|mask|>" for cell in blanks)
    assert len(blanks) == round(0.3 * sum(cell["text"] != "<|endoftext|>" for cell in cells))
    told = call("inspect", "batch", "--objective", "masked", *where).out
    assert "<|mask|>[" in told and "row 1" in told and "row 2" not in told


def test_other_objectives_and_later_batches(call, tiny):
    where = ("--home", str(tiny.home), *SMALL)
    spans = json.loads(call("inspect", "batch", "--objective", "spans", *where, *ROOM, "--json").out)
    assert any(cell["text"] == "<extra_id_0>" for cell in spans["shown"][0]["inputs"]["source_ids"])
    first, second = (
        json.loads(call("inspect", "batch", "--objective", "causal", "--skip", skip, *where, "--json").out)["shown"]
        for skip in ("0", "1")
    )
    assert first != second


def test_mistakes(call, tiny):
    assert "at least 1" in call.mistake("inspect", "batch", "--rows", "0", "--home", str(tiny.home))
    assert "unknown objective" in call.mistake("inspect", "batch", "--objective", "x", "--home", str(tiny.home))
