"""Page: lines and sentences, and what is left when lines are taken."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.corpus.measured_document import Lines, MeasuredDocument
from bloomery.corpus.words import Vocabulary, split_words


@pytest.mark.parametrize(
    "line",
    [
        "One. Two. Three.",
        "No end",
        "",
        "... And so",
        'He said "go!" Then left.',
        "Really?! Yes.",
        "Mr. X came. He left",
        "A. B. C.",
        "(One.) Two",
        ". . .",
        "1. First 2. Second",
    ],
)
def test_sentences_are_spacys(line: str):
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    lines = Lines(f"Before.\n{line}\nAfter. All.", Vocabulary())
    assert lines.sentences.tolist() == [1, len(list(pipeline(line).sents)), 2]


def test_citation_marks_go_and_lines_are_stripped():
    lines = Lines("  A fact.[12] \nMore[citation needed].\n[x]", Vocabulary())
    assert lines.lines == ["A fact.", "More.", "[x]"]
    assert lines.raw == ["A fact.[12]", "More[citation needed].", "[x]"]


def test_a_page_becomes_what_lines_are_left():
    vocabulary = Vocabulary()
    document = MeasuredDocument("one two\nthree\nfour five", vocabulary)
    document.take_lines(np.array([False, True, False]))
    document.settle()
    assert document.now.text == "one two\nfour five" and document.original.text.count("\n") == 2
    assert document.now.numbers.tolist() == vocabulary.numbers_of("one two four five")
    assert len(document.now.numbers) == len(split_words(document.now.text))


def test_kinds_of_lines():
    text = MeasuredDocument("a\n\n b\u2028c\n\n\n", Vocabulary()).now
    assert text.lines == ["a", "", " b\u2028c", "", "", ""]
    assert text.filled_lines == ["a", " b\u2028c"]
    assert text.any_lines == ["a", "", " b", "c", "", ""]
    assert text.paragraphs == ["a", " b\u2028c"]
    assert text.runs_of_lines == ["a", " b\u2028c", ""]
