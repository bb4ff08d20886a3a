"""Citations: every quote is the document's own text at its range, whatever a model claims."""

from __future__ import annotations

import random

import pytest

from bloomery.retrieve.answers.citation import (
    by_markers,
    by_quotes,
    by_spans,
    find_quote,
    normalised,
    split_sentences,
    support_of,
    terms,
)
from bloomery.retrieve.answers.passages import Passage, assemble
from bloomery.retrieve.chunk import Chunk, Hit


@pytest.fixture
def passages(documents: dict[str, str]) -> list[Passage]:
    hits = []
    for n, (name, text) in enumerate(documents.items()):
        chunk = Chunk(id=f"{name}-0", document_id=name, text=text[10:], start=10, end=len(text))
        hits.append(Hit(chunk=chunk, score=9.0 - n))
    return assemble(hits)


def stands(citations, documents: dict[str, str]) -> bool:
    return all(documents[one.document_id][one.start : one.end] == one.quote for one in citations)


@pytest.mark.parametrize(
    ("quote", "match", "document"),
    [
        ("It burned charcoal, never coke.", "exact", "furnace"),
        ("it  burned CHARCOAL,\nnever coke", "normalised", "furnace"),
        ("opened on New Year's Day 1781", "normalised", "bridge"),
        ("“stale on the second day”", "exact", "bread"),
        ("It burned\u200b charcoal", "normalised", "furnace"),
        ("It burned⟨U+200B⟩ charcoal", "exact", "furnace"),
    ],
)
def test_quotes_are_found(quote, match, document, passages, documents):
    (found,) = find_quote(quote, passages)
    assert (found.document_id, found.match) == (document, match) and stands([found], documents)
    assert normalised(found.quote)[0].strip() == normalised(found.quote.strip())[0]


def test_words_left_out_are_several_citations(passages, documents):
    found = find_quote("The bridge... five ribs of cast iron [...] opened on", passages)
    assert found == []  # "The bridge" stands before what was read
    found = find_quote("five ribs of cast iron ... opened on New Year", passages)
    assert [one.quote for one in found] == ["five ribs of cast iron", "opened on New Year"] and stands(found, documents)
    assert find_quote("opened on New Year ... five ribs", passages) == []  # in the other order


@pytest.mark.parametrize(
    "quote",
    ["It burned coke, never charcoal.", "", "  ", "...", "urned charcoa", "five ribs of steel", "The furnace at"],
)
def test_what_does_not_stand_there_is_not_found(quote, passages):
    assert find_quote(quote, passages) == []


def test_random_spans_are_found_where_they_stand(passages, documents):
    rng = random.Random(0)
    for _ in range(200):
        name = rng.choice(list(documents))
        words = documents[name][10:].split(" ")[1:]
        begin = rng.randrange(len(words) - 3)
        span = " ".join(words[begin : begin + rng.randint(3, 8)]).strip()
        found = find_quote(span.upper() if rng.random() < 0.5 else span, passages)
        assert found and stands(found, documents)
        assert normalised(found[0].quote)[0] == normalised(span)[0]


def test_markers_cite_sentences(passages, documents):
    said = "It burned charcoal [1]. The bridge has five ribs [2][1]. Bread is blue [3]. It has nine ribs [2]. So [9]!"
    text, found = by_markers(said, passages, least=0.6)
    assert "[9]" not in text and "[1]" in text
    assert [one.supported for one in found] == [True, True, False, False, False]
    assert found[0].citations[0].quote == "It burned charcoal, never coke."
    assert all(stands(one.citations, documents) for one in found)
    assert found[4].why == "there is no passage 9" and found[0].support == 1.0
    _, (silent,) = by_markers("It burned charcoal.", passages, least=0.5)
    assert not silent.supported and silent.why == "it cites nothing"


def test_numbers_must_stand_in_the_source(passages):
    _, found = by_markers(
        "The bloom weighed 41 kilograms [1]. The bloom weighed 44 kilograms [1].", passages, least=0.5
    )
    assert [one.supported for one in found] == [True, False]
    assert support_of("lit in 1875", "lit on 3 May 1874") == 0.0


def test_quotes_belong_to_statements(passages, documents):
    quotes = [(1, "It burned charcoal, never coke."), (2, "five ribs of cast iron"), (1, "It burned peat.")]
    found = by_quotes("It burned charcoal. The bridge has five ribs. Rye keeps.", quotes, passages, least=0.5)
    assert [one.supported for one in found] == [True, True, False]
    assert [one.document_id for one in found[0].citations + found[1].citations] == ["furnace", "bridge"]
    assert found[2].why == "its quotes stand in no passage"
    assert all(stands(one.citations, documents) for one in found)


def test_spans_are_found_without_marks(passages, documents):
    found = by_spans("We read that it burned charcoal, never coke, in those days. Whales sing.", passages, least=0.3)
    assert found[0].supported and found[0].citations[0].by == "span" and stands(found[0].citations, documents)
    assert "burned charcoal, never coke" in found[0].citations[0].quote
    assert not found[1].supported and found[1].citations == ()


def test_sentences_and_terms():
    text = "Dr. Smith came, e.g. by train. It cost 3.5 pounds! 「はい。」雨が降る。End [2]. Last"
    assert [text[a:b] for a, b in split_sentences(text)] == [
        "Dr. Smith came, e.g. by train.",
        "It cost 3.5 pounds!",
        "「はい。",
        "」雨が降る。",
        "End [2].",
        "Last",
    ]
    assert terms("The furnaces of 1874") == {"furnace", "1874"} and terms("It is") == {"it", "is"}
    assert terms("雨が降る") == {"雨が", "が降", "降る"}
