"""sentences: the counts are spaCy's, and those of a walk over every word, whatever was met before."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.corpus import sentences
from bloomery.corpus.sentences import Chunks, count_sentences
from bloomery.corpus.words import SENTENCE_ENDS, split_words

PARTS = [*"ab.!?。\"'()-_$1 é—…,\u00a0", "Mr.", "U.S. ", "e.g.", ":-)", "3.5", "https://a.b/c? "]
LINES = st.lists(st.lists(st.sampled_from(PARTS), max_size=20).map("".join), max_size=6)


def walked(line: str) -> int:
    words, count, ended = split_words(line), 0, False
    for word in words:
        if word in SENTENCE_ENDS:
            ended = True
        elif not all(unicodedata.category(c)[0] == "P" for c in word):
            count += ended
            ended = False
    return count + bool(words)


@given(LINES)
def test_a_walk_over_all_words_finds_as_many(lines: list[str]):
    found = count_sentences([line.split() for line in lines], Chunks())
    assert found.tolist() == [walked(line) for line in lines]


@pytest.mark.parametrize("line", ["One. Two. Three.", "... And so", 'He said "go!" Then left.', "Mr. X came. He left"])
def test_as_spacy_counts(line: str):
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    assert count_sentences([line.split()], Chunks()).tolist() == [len(list(pipeline(line).sents))]


def test_what_is_known_is_bounded_and_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sentences, "_KNOWN_CHUNKS", 3)
    known = Chunks()
    line = "One two. Three four five."
    first = count_sentences([line.split()], known)
    assert len(known) == 5
    assert count_sentences([["x" * 60 + "-yyyy.", "Five"]], known).tolist() == [2] and len(known) == 6
    known.make_room()
    assert not known
    assert count_sentences([line.split()], known).tolist() == first.tolist() == [2]
