"""ROUGE-L against rouge_score, the subsequence against the textbook, and what is remembered."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from bloomery.corpus.annotation.self_similarity import TakenTexts, common_subsequence, rouge_l, words_of

WORDS = st.lists(st.sampled_from("abcdefg"), max_size=90)


def textbook(one: list[str], other: list[str]) -> int:
    row = [0] * (len(other) + 1)
    for a in one:
        before = 0
        for place, b in enumerate(other, 1):
            before, row[place] = row[place], before + 1 if a == b else max(row[place], row[place - 1])
    return row[-1]


@settings(max_examples=50)
@given(WORDS, WORDS)
def test_the_subsequence_is_the_textbooks(one: list[str], other: list[str]):
    assert common_subsequence(one, other) == textbook(one, other)


def test_rouge_l_is_rouge_scores():
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    rng = random.Random(0)
    words = list("abcdefghijklmnopq")
    for _ in range(50):
        one, other = (" ".join(rng.choices(words, k=rng.randrange(1, 30))) for _ in range(2))
        wanted = scorer.score(one, other)["rougeL"].fmeasure
        assert rouge_l(words_of(one), words_of(other)) == pytest.approx(wanted, abs=1e-12)


def test_the_nearest_is_found_as_by_comparing_all():
    rng = random.Random(1)
    texts = [" ".join(rng.choices("abcdef", k=rng.randrange(5, 20))) for _ in range(150)]
    taken = TakenTexts(threshold=0.6)
    for number, text in enumerate(texts[:100]):
        taken.take(str(number), text)
    for text in texts[100:]:
        scores = [rouge_l(words_of(text), words_of(other)) for other in texts[:100]]
        found = taken.nearest(text)
        assert (found is None) == (max(scores) < 0.6)
        assert found is None or found.score == pytest.approx(max(scores))


def test_memory_is_bounded_and_the_oldest_go():
    taken = TakenTexts(limit=3)
    for number in range(10):
        taken.take(str(number), f"text number {number} of its own kind {number}")
    assert len(taken) == 3
    assert taken.nearest("text number 9 of its own kind 9").key == "9"
    taken = TakenTexts(limit=1, threshold=1.0)
    taken.take("a", "one text")
    taken.take("b", "another")
    assert taken.nearest("one text") is None


def test_nothing_is_like_nothing():
    taken = TakenTexts()
    taken.take("a", "")
    assert taken.nearest("") is None and taken.nearest("words") is None
