"""Batch stages: records one at a time, so that how they are batched does not matter; the rest passes through."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from bloomery.corpus.batch_stages import batch_stages, cut, through
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.filter_config import FilterConfig
from bloomery.corpus.personal_config import PersonalConfig
from bloomery.corpus.record import Record

SENTENCE = "The keeper of the house had seen the garden and the river. Mail jo{0}@acme.io or have it with care.\n"


def _records() -> list[Record]:
    texts = ["".join(SENTENCE.format(n * line) for line in range(n)) for n in range(12)]
    records = [Record.of(Document.of(text, "s", {"line": n})) for n, text in enumerate(texts)]
    records.insert(5, Record("problem", source="s, line 5", reason="broken_json"))
    for number, record in enumerate(records):
        record.item = number
    return records


def test_batches_of_any_size_give_the_same(tmp_path: Path):
    config = CurateConfig(
        cut_characters=400,
        filter=FilterConfig(profile="c4-paper", rules={"c4_language": "off"}),
        personal=PersonalConfig(all="mask"),
    )
    whole = through(_records(), batch_stages(config, tmp_path))
    stages = batch_stages(config, tmp_path)
    assert len(stages) == 3
    assert [made for record in _records() for made in through([record], stages)] == whole
    kinds = [record.kind for record in whole]
    assert {"document", "taken", "problem"} == set(kinds) and len(whole) > 13
    assert all("@" not in record.text for record in whole)
    for record in whole:
        if record.kind == "document" and record.text:
            assert record.scores is not None and record.scores["id"] == record.id


def test_no_stage_for_what_is_not_asked(tmp_path: Path):
    assert batch_stages(CurateConfig(), tmp_path) == []


def test_pieces_joined_are_the_text():
    records = _records()
    pieces = cut(deepcopy(records), 150)
    for record in records:
        own = [piece for piece in pieces if piece.item == record.item]
        assert "".join(piece.text for piece in own) == record.text
        assert [piece.metadata.get("cut") for piece in own] == (
            [None] if len(record.text) <= 150 else list(range(len(own)))
        )
