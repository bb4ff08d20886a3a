"""Repetition: equal to plain counting with strings."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.corpus.repetition import WordRuns, repeated
from bloomery.corpus.words import Vocabulary

texts = st.lists(st.sampled_from(["a", "ab", "b", "ba", "c", "aba"]), max_size=60)


def _runs(words: list[str]) -> WordRuns:
    vocabulary = Vocabulary()
    return WordRuns(np.array(vocabulary.numbers_of(" ".join(words)), np.int64), vocabulary)


@given(texts)
def test_repeated_runs_are_those_of_a_set_of_strings(words: list[str]):
    runs = _runs(words)
    for size in (2, 3, 5):
        seen: set[str] = set()
        characters = place = 0
        while place <= len(words) - size:
            run = "".join(words[place : place + size])
            if run in seen:
                characters += len(run)
                place += size
            else:
                seen.add(run)
                place += 1
        assert runs.repeated_characters(size) == characters


@given(texts)
def test_the_most_frequent_run_is_a_counters(words: list[str]):
    runs = _runs(words)
    for size in (2, 3, 4):
        grams = [" ".join(words[place : place + size]) for place in range(len(words) - size + 1)]
        expected = 0
        if grams:
            gram, count = Counter(grams).most_common(1)[0]
            expected = len(gram) * count
        assert runs.most_frequent_characters(size) == expected


@given(st.lists(st.text("ab", max_size=3), max_size=20))
def test_copies_are_counted_beyond_the_first(things: list[str]):
    copies = Counter(things)
    assert repeated(things) == (
        sum(count - 1 for count in copies.values()),
        sum(len(thing) * (count - 1) for thing, count in copies.items()),
    )


def test_sizes_are_asked_for_in_ascending_order():
    runs = _runs(["a"] * 20)
    runs.repeated_characters(5)
    with pytest.raises(AssertionError, match="ascending"):
        runs.repeated_characters(4)
