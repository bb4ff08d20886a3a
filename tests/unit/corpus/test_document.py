"""Documents: ids, surrogates, and cuts that lose nothing."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from bloomery.corpus.document import Document, content_digest, cut_text, readable, text_digest


def test_an_id_is_the_start_of_the_texts_sha256():
    document = Document.of("Grüße", "a.txt")
    assert document.id == hashlib.sha256("Grüße".encode()).hexdigest()[:16]
    assert text_digest("Grüße").hex().startswith(document.id)
    assert Document.of("Grüße", "elsewhere.txt", {"line": 3}).id == document.id


def test_content_is_the_text_but_for_line_ends_and_its_end():
    plain = content_digest("one\n  two")
    assert plain == hashlib.sha256(b"one\n  two\n").digest()
    for same in ("one\r\n  two\r\n", "one\r  two", "one\n  two \t\n\n"):
        assert content_digest(same) == plain
    for other in ("one\n two", " one\n  two", "One\n  two", "one\n\n  two", "one \n  two"):
        assert content_digest(other) != plain


@given(st.text(st.characters(categories=["L", "Cs"])))
def test_a_readable_text_can_always_be_written(text: str):
    readable(text).encode()


def test_readable_keeps_sound_text_and_joins_pairs():
    assert readable("plain \U0001f600") == "plain \U0001f600"
    assert readable("\ud83d\ude00") == "\U0001f600"
    assert readable("a\ud83db") == "a\ufffdb"


@given(st.text("ab \n", max_size=300), st.integers(1, 50))
def test_pieces_joined_are_the_text_and_bounded(text: str, limit: int):
    pieces = cut_text(text, limit)
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= 2 * limit for piece in pieces)


def test_cuts_fall_at_blank_lines_where_there_are_any():
    paragraphs = [f"paragraph {n} " + "word " * 20 for n in range(10)]
    pieces = cut_text("\n\n".join(paragraphs), 200)
    assert len(pieces) > 3
    assert all(piece.startswith("paragraph") for piece in pieces)
