"""Passages stand before the question, as many as there is room for, found by the question alone."""

from __future__ import annotations

import json
from contextlib import closing

import numpy as np
import pytest

from bloomery.adapt.comparison import passages
from bloomery.adapt.comparison.passages import (
    Reader,
    ReadingAnswerer,
    Search,
    all_documents,
    index_folder,
    opened_index,
    paid_before,
    reading_digest,
)
from bloomery.evaluate.sample import Answered, Sample


@pytest.fixture
def source(tmp_path):
    rows = [
        {"id": "iron", "text": "Iron is smelted in a furnace."},
        {"id": "sea", "text": "The sea is salty and wide."},
    ]
    path = tmp_path / "documents.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_search_takes_the_question_and_not_its_context(source, workspace):
    found = Search(opened_index(source, workspace, size_tokens=50), 1)
    sample = Sample(id="1", input="The salty sea.\n\nWhere is iron smelted?", metadata={"question": "iron smelted?"})
    assert [one.document for one in found.find(sample)] == ["iron"]
    asked, taken = Reader(finder=found, room=lambda sample: 1000).read(sample)
    assert asked.input.endswith(sample.input) and "[1] Iron is smelted" in asked.input and len(taken) == 1
    cost = paid_before(source, workspace, size_tokens=50)
    assert cost.processor_seconds > 0 and paid_before(source, workspace, size_tokens=60).seconds == 0
    runs = len(workspace.ledger.runs())
    opened_index(source, workspace, size_tokens=50)
    assert len(workspace.ledger.runs()) == runs and len(list(index_folder(workspace).iterdir())) == 1


def test_room_ends_the_list(source):
    reader = Reader(finder=all_documents(source), room=lambda sample: 130)
    _, taken = reader.read(Sample(id="1", input="?"))
    assert [one.document for one in taken] == ["iron"]
    none = Reader(finder=all_documents(source), room=lambda sample: 0)
    assert none.read(Sample(id="1", input="?"))[0].input == "?"


def test_what_was_read_is_told(source):
    class Base:
        name = "base"

        def answer(self, sample):
            return Answered(sample_id=sample.id, text=str("salty" in sample.input))

    arm = ReadingAnswerer(Base(), Reader(finder=all_documents(source), room=lambda sample: 500))
    found = arm.answer(Sample(id="1", input="?"))
    assert found.text == "True" and [one["document"] for one in found.details["passages"]] == ["iron", "sea"]
    assert arm.name == "base, reading" and found.seconds > 0


def test_an_embedder_finds_by_meaning_too(source, workspace, monkeypatch):
    """The embedder is opened once; other weights under its name get another index, and their own cost."""
    opened = []

    class Opened:
        """Vectors by what a text is about, whatever its words."""

        def __init__(self, name):
            self.name = name

        def embed(self, texts):
            about = ("iron", "metal"), ("sea", "ocean")
            rows = [[float(any(word in text.lower() for word in words)) for words in about] for text in texts]
            return np.array(rows, np.float32)

        def close(self): ...

    def open_embedder(name, model, home, *, cached):
        opened.append(name)
        return Opened(f"{name}-{weights[0]}")

    weights = ["0123"]
    monkeypatch.setattr(passages, "open_embedder", open_embedder)
    passages._embedder.cache_clear()
    asked = {"size_tokens": 50, "embedder": "mine"}
    sample = Sample(id="1", input="Which ocean?")
    assert Search(opened_index(source, workspace, size_tokens=50), 1).find(sample) == []  # no word of it stands there
    with closing(opened_index(source, workspace, **asked)) as found:
        assert found.mode() == "hybrid" and [one.document for one in Search(found, 1).find(sample)] == ["sea"]
    assert paid_before(source, workspace, **asked).seconds > 0 and opened == ["mine"]
    opened_index(source, workspace, **asked).close()
    assert opened == ["mine"] and len(list(index_folder(workspace).iterdir())) == 2
    told = {arm: reading_digest(arm, source, workspace, embedder="mine") for arm in ("rag", "majority")}
    weights[0] = "4567"
    passages._embedder.cache_clear()
    assert reading_digest("rag", source, workspace, embedder="mine") != told["rag"] != told["majority"]
    assert reading_digest("rag", source, workspace) == told["majority"] and not reading_digest("rag", "", workspace)
    assert paid_before(source, workspace, **asked).seconds == 0
    opened_index(source, workspace, **asked).close()
    assert len(list(index_folder(workspace).iterdir())) == 3
    passages._embedder.cache_clear()
