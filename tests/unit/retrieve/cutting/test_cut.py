"""Cutting: every chunk is a range of its document, nothing is lost, sizes hold; on generated and on real texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.corpus.document import Document
from bloomery.retrieve.cutting.config import CutConfig
from bloomery.retrieve.cutting.cut import chunk_id, cut, with_title
from bloomery.retrieve.cutting.ruler import count, words_and_signs

PIECES = st.sampled_from(
    [
        *(
            "# Title\n",
            "## Part\n",
            "Title\n=====\n",
            "\n",
            "\n\n",
            "\r\n",
            " ",
            "\t",
            "a b c. ",
            "Iron, ore! Coal? ",
            "- item\n",
        ),
        *(
            "| a | b |\n",
            "|---|---|\n",
            "```\ncode\n\nmore\n```\n",
            "def f(x):\n    return x\n\n",
            "class A:\n    def g(self):\n",
        ),
        *(
            "        pass\n",
            "鉄を作る。炉がある！",
            "x" * 90,
            "é🔥\u2028",
            "1. one\n2. two\n",
            "# comment\n",
            "}\n",
            "@decorated\n",
        ),
    ]
)
TEXTS = st.lists(PIECES, max_size=40).map("".join)
METHODS = ("auto", "structure", "sentences", "tokens", "code", "whole")


def check(document: Document, config: CutConfig) -> None:
    text, starts = document.text, words_and_signs(document.text)
    pieces = cut(document, config)
    covered = set()
    headings = " ".join(piece.heading for piece in pieces)
    for start, end, _ in pieces:
        assert 0 <= start < end <= len(text)
        assert text[start:end].strip() and text[end - 1 : end].strip()
        if config.method != "whole":
            assert count(starts, start, end) <= config.size_tokens
        covered.update(range(start, end))
    for place, sign in enumerate(text):
        if place not in covered and sign.isalnum():
            assert sign in headings, (place, sign)
    assert pieces == sorted(pieces, key=lambda piece: piece[:2])
    if not config.overlap_tokens:
        assert sum(end - start for start, end, _ in pieces) == len(covered)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from(METHODS), st.sampled_from(["a.md", "a.py", "a.go"]), st.sampled_from([(8, 0), (16, 6)]))
def test_any_text(text, method, name, sizes):
    check(Document.of(text, name), CutConfig(method=method, size_tokens=sizes[0], overlap_tokens=sizes[1]))


@pytest.mark.parametrize("method", METHODS)
def test_this_very_file(method):
    text = Path(__file__).read_text(encoding="utf-8")
    check(Document.of(text, "test_cut.py"), CutConfig(method=method, size_tokens=50))


def test_sentences_overlap_by_whole_sentences():
    text = "One two three. Four five six. Seven eight nine. Ten eleven twelve."
    config = CutConfig(method="sentences", size_tokens=8, overlap_tokens=4)
    pieces = [text[start:end] for start, end, _ in cut(Document.of(text, "x"), config)]
    assert pieces == [
        "One two three. Four five six.",
        "Four five six. Seven eight nine.",
        "Seven eight nine. Ten eleven twelve.",
    ]


def test_tokens_overlap_exactly():
    text = " ".join(f"w{n}" for n in range(30))
    config = CutConfig(method="tokens", size_tokens=10, overlap_tokens=4)
    pieces = [text[start:end].split() for start, end, _ in cut(Document.of(text, "x"), config)]
    assert [piece[0] for piece in pieces] == ["w0", "w6", "w12", "w18", "w24"] or pieces[-1][-1] == "w29"
    assert all(len(piece) == 10 for piece in pieces[:-1]) and pieces[0][-4:] == pieces[1][:4]


def test_white_space_is_no_chunk():
    assert cut(Document.of(" \n\t ", "x.md"), CutConfig()) == []


def test_ids_are_of_document_place_and_content():
    assert chunk_id("a", 0, 1, "x") == chunk_id("a", 0, 1, "x")
    assert (
        len({chunk_id("a", 0, 1, "x"), chunk_id("b", 0, 1, "x"), chunk_id("a", 1, 1, "x"), chunk_id("a", 0, 1, "y")})
        == 4
    )


def test_titles_stand_before_headings_once():
    assert with_title("T", "") == "T" and with_title("", "A") == "A" and with_title("T", "A > B") == "T > A > B"
    assert with_title("T", "T") == "T" and with_title("T", "T > A") == "T > A"
