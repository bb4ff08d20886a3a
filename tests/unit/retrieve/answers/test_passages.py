"""Passages: within the budget, nothing twice, neighbours joined, every character where it stands in its document."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.retrieve.answers.passages import PassageConfig, assemble, estimated_tokens
from bloomery.retrieve.chunk import Chunk, Hit

TEXT = "".join(f"Sentence number {n} of the document. " for n in range(40))


def chunk(start: int, end: int, document: str = "d", text: str = TEXT) -> Chunk:
    return Chunk(id=f"{document}:{start}", document_id=document, text=text[start:end], start=start, end=end)


def hits(*chunks: Chunk) -> list[Hit]:
    return [Hit(chunk=one, score=float(len(chunks) - n)) for n, one in enumerate(chunks)]


def words(text: str) -> int:
    return len(text.split())


def test_neighbours_and_overlaps_are_joined():
    found = assemble(hits(chunk(100, 200), chunk(0, 60), chunk(200, 280), chunk(150, 240)))
    assert [(one.start, one.pieces[-1].end) for one in found] == [(100, 280), (0, 60)]
    for passage in found:
        for piece in passage.pieces:
            assert piece.text == TEXT[piece.start : piece.end]
    assert found[0].score == 4.0 and found[0].pieces[0].chunk_id(110, 120) == "d:100"
    assert found[0].pieces[0].chunk_id(190, 230) == "d:150"


def test_the_same_text_is_read_once_and_remembered():
    other = chunk(0, 100, "copy")
    found = assemble(hits(chunk(0, 100), other, chunk(0, 100)))
    assert len(found) == 1 and found[0].document_id == "d" and found[0].also == ("copy",)


def test_the_budget_holds():
    pieces = [chunk(n * 100, n * 100 + 90, f"d{n}") for n in range(8)]
    config = PassageConfig(budget_tokens=120, max_passages=8)
    found = assemble(hits(*pieces), config, count=words)
    taken = sum(words(one.text) + 24 for one in found)
    assert 0 < taken <= 120 < taken + 24 + words(pieces[0].text)
    assert len(assemble(hits(*pieces), PassageConfig(max_passages=3), count=words)) == 3


def test_the_first_is_cut_to_what_fits():
    found = assemble(hits(chunk(0, 1400)), PassageConfig(budget_tokens=64), count=words)
    text = found[0].text
    assert words(text) <= 40 and TEXT.startswith(text) and found[0].pieces[0].end == len(text)


def test_orders():
    given = hits(chunk(300, 340, "b"), chunk(0, 40, "a"), chunk(0, 40, "b"), chunk(300, 340, "a"), chunk(0, 50, "c"))
    given[4] = Hit(chunk=Chunk(id="c", document_id="c", text="Other words.", start=0, end=12), score=1.0)
    given[1] = Hit(chunk=Chunk(id="x", document_id="a", text="Something else.", start=0, end=15), score=4.0)
    given[3] = Hit(chunk=Chunk(id="y", document_id="a", text="More of that.", start=300, end=313), score=2.0)

    def places(order: str) -> list[tuple[str, int]]:
        return [(one.document_id, one.start) for one in assemble(given, PassageConfig(order=order))]  # type: ignore[arg-type]

    assert places("score") == [("b", 300), ("a", 0), ("b", 0), ("a", 300), ("c", 0)]
    assert places("document") == [("b", 0), ("b", 300), ("a", 0), ("a", 300), ("c", 0)]
    assert places("edges") == [("b", 300), ("b", 0), ("c", 0), ("a", 300), ("a", 0)]


def test_nothing_and_mistakes():
    assert assemble([]) == []
    assert assemble(hits(Chunk(id="e", document_id="e", text="  ", start=0, end=2))) == []
    assert estimated_tokens("abcd") == 2
    with pytest.raises(ConfigError):
        PassageConfig(budget_tokens=3)
