"""Words: as spaCy's English rules cut them, and sentences as its sentencizer counts them."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest

from bloomery.corpus.words import SENTENCE_ENDS, SYMBOLS, TERMINAL_MARKS, Vocabulary, split_chunk, split_words

spacy = pytest.importorskip("spacy")


def test_words_are_spacys_but_for_a_few(shared_data: Path):
    with lzma.open(shared_data / "text" / "c4_demo.jsonl.xz", "rt") as stream:
        texts = [json.loads(line)["text"] for line in stream][::6]
    cut = spacy.blank("en").tokenizer
    chunks = [chunk for text in texts for chunk in text.split()]
    other = [c for c in chunks if split_chunk(c) != tuple(word.text for word in cut(c))]
    assert len(other) <= len(chunks) / 2_000, other  # 9 of 339,710 on all samples; a few more or less on these


@pytest.mark.parametrize(
    "chunk",
    [
        "don't",
        "(Hello,",
        "U.S.",
        "e.g.",
        "it's",
        "$5",
        "10km",
        "well-known",
        "a/b",
        "http://x.org/a.",
        "3:30pm",
        "……",
        "…",
        "him.The",
        "right):",
        "cannot",
        "C++",
        "“Yes,”",
        "日本語",
        "I'm",
        "they'll",
        "x=y",
        "5-10",
        "[1]",
        "E.U.",
        "rock'n'roll",
    ],
)
def test_chunks_are_cut_as_spacy_cuts_them(chunk: str):
    assert split_chunk(chunk) == tuple(word.text for word in spacy.blank("en").tokenizer(chunk))


def test_words_joined_are_the_chunks():
    text = '"Don\'t," she said (twice...) – 5€, 10km/h: a@b.io/x?y=1!'
    assert "".join(split_words(text)) == "".join(text.split())


def test_sets_of_marks_are_datatroves_and_spacys():
    from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION

    assert SYMBOLS == PUNCTUATION_SET and TERMINAL_MARKS == TERMINAL_PUNCTUATION
    assert set(spacy.pipeline.Sentencizer.default_punct_chars) == SENTENCE_ENDS


def test_a_vocabulary_knows_its_words_and_forgets_them():
    vocabulary = Vocabulary()
    numbers = np.array(vocabulary.numbers_of("The cat and the hat, 42 !"))
    words = split_words("The cat and the hat, 42 !")
    assert vocabulary.column("lengths")[numbers].tolist() == [len(word) for word in words]
    assert vocabulary.column("symbols")[numbers].tolist() == [word in ",!" for word in words]
    assert vocabulary.column("letters")[numbers].tolist() == [any(c.isalpha() for c in word) for word in words]
    more = np.array(vocabulary.numbers_of("the " * 3 + "new"))
    assert more[0] == more[1] == numbers[3] and vocabulary.column("lengths")[more[3]] == 3
    vocabulary.forget()
    assert vocabulary.numbers_of("new") == [0]
