"""Witten-Bell against NLTK's implementation of the same model."""

from __future__ import annotations

import random

import numpy as np
import pytest

from bloomery.evaluate.ngram import END, WittenBell, symbols


def test_symbols_end_every_text():
    assert symbols([b"ab", b"", b"c"]).tolist() == [END, 97, 98, END, END, 99, END]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_agrees_with_nltk(order: int):
    from nltk.lm import WittenBellInterpolated
    from nltk.util import everygrams

    rng = random.Random(order)
    training = symbols([bytes(rng.choice(b"abcd ") for _ in range(60)) for _ in range(8)])
    test = symbols([bytes(rng.choice(b"abcde ") for _ in range(40)) for _ in range(3)])
    words = [str(s) for s in training]
    theirs = WittenBellInterpolated(order, vocabulary=None)
    theirs.fit([everygrams(words, max_len=order)], vocabulary_text=[str(s) for s in range(257)])
    ours = WittenBell(training, order=order).probabilities(test)
    rare = 0
    for position in range(1, len(test)):
        context = tuple(str(s) for s in test[max(0, position - order + 1) : position])
        word = str(test[position])
        if word not in words:
            rare += 1
            continue  # NLTK's unigram is plain maximum likelihood, ours is mixed with the uniform below it
        expected = theirs.score(word, context) if order > 1 else words.count(word) / len(words)
        kinds, total = len(set(words)), len(words)
        # Their unigram P(w) = c/N; ours (c + T/257)/(N + T). Both interpolate linearly in it, so the
        # difference is bounded by that of the unigrams.
        count = words.count(word)
        bound = abs(count / total - (count + kinds / 257) / (total + kinds))
        assert abs(ours[position - 1] - expected) <= bound + 1e-12
    assert rare > 0


def test_probabilities_sum_to_one():
    model = WittenBell(symbols([b"abracadabra", b"alakazam"]), order=4)
    context = [END, *b"abra"]
    total = 0.0
    for symbol in range(257):
        total += model.probabilities(np.array([*context, symbol]))[-1]
    assert total == pytest.approx(1.0, abs=1e-12)


def test_bits_per_byte_counts_ends_but_divides_by_bytes():
    model = WittenBell(symbols([b"aaaa"] * 50), order=3)
    sequence = symbols([b"aaaa"])
    bits = -np.log2(model.probabilities(sequence)).sum()
    assert model.bits_per_byte([b"aaaa"]) == pytest.approx(bits / 4)


def test_order_is_bounded():
    with pytest.raises(ValueError, match="from 1 to 7"):
        WittenBell(symbols([b"a"]), order=8)
