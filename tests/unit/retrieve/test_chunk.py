"""The nouns hold what they are given, and are their own by value."""

from __future__ import annotations

from bloomery.retrieve.chunk import Chunk, Hit


def test_chunks_are_equal_by_value() -> None:
    text = "Pig iron is brittle. A bloom is not."
    one = Chunk(id="a", document_id="d", text=text[21:36], start=21, end=36)
    assert one.text == "A bloom is not." and one == Chunk(id="a", document_id="d", text=one.text, start=21, end=36)
    assert Hit(chunk=one, score=1.0).ranks == {} == Hit(chunk=one, score=1.0).scores
