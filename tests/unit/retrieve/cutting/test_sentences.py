"""Sentences: as spaCy's sentencizer has them on prose with spaces."""

from __future__ import annotations

import pytest

from bloomery.retrieve.cutting.sentences import sentences


def parts(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def test_abbreviations_quotes_and_blank_lines():
    assert parts('Dr. Smith came, e.g. "late." He left! Did he? (Yes.) So\n\nno end') == [
        'Dr. Smith came, e.g. "late."',
        "He left!",
        "Did he?",
        "(Yes.)",
        "So",
        "no end",
    ]


def test_scripts_without_spaces():
    assert parts("鉄を作る。炉がある！「熱い。」火") == ["鉄を作る。", "炉がある！", "「熱い。」", "火"]


def test_numbers_stay_whole():
    assert parts("It is 3.5 metres. That is all.") == ["It is 3.5 metres.", "That is all."]


def test_as_spacy():
    spacy = pytest.importorskip("spacy")
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    text = "Iron was smelted here. Nobody knows when it began! Was it early? The slag, they say, is old. It lies deep."
    assert parts(text) == [one.text.strip() for one in nlp(text).sents]


def test_ranges_within():
    text = "One. Two. Three."
    assert [text[a:b] for a, b in sentences(text, 5, 9)] == ["Two."]
    assert sentences("  ") == []
