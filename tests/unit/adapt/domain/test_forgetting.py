"""Forgetting: bits of documents as `evaluate` has them, intervals by scipy, coverage of them on simulated documents."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bloomery.adapt.domain.forgetting import Change, change, document_bits, lines
from bloomery.adapt.starting import Start
from bloomery.core.errors import DataError
from bloomery.engine import load_language_model
from bloomery.evaluate.bits_per_byte import bits_per_byte

TEXTS = ["Once upon a time. " * 20, "Short.", "user assistant what is it? " * 3]


def test_bits_of_documents_add_up_to_what_evaluation_says(make_model):
    model = make_model()
    start = Start.of(model)
    bits = document_bits(start.decoder, start.tokenizer, TEXTS)
    loaded = load_language_model(model.path)
    whole = bits_per_byte(loaded, TEXTS)
    assert bits.sum() / sum(len(text.encode()) for text in TEXTS) == pytest.approx(whole.bits_per_byte, rel=1e-5)
    assert bits[1] / 6 == pytest.approx(bits_per_byte(loaded, TEXTS[1:2]).bits_per_byte, rel=1e-5)
    loaded.close()


def test_a_change_is_of_all_bytes_and_says_what_its_interval_says():
    rng = np.random.default_rng(0)
    texts = ["x" * int(size) for size in rng.integers(50, 500, 40)]
    sizes = np.array([len(text) for text in texts])
    before = sizes * rng.normal(2.0, 0.3, 40)
    after = before - sizes * rng.normal(0.2, 0.05, 40)
    found = change("pages", texts, before, after, resamples=500, seed=0)
    assert found.before == pytest.approx(before.sum() / sizes.sum())
    assert found.difference == pytest.approx(found.after - found.before)
    assert found.low is not None and found.high is not None and found.low < found.difference < found.high < 0
    assert found.verdict == "better" and change("p", texts, after, before, resamples=500, seed=0).verdict == "worse"
    noise = before + sizes * rng.normal(0.0, 0.1, 40)
    assert change("p", texts, before, noise, resamples=500, seed=0).verdict == "no change to be told"
    assert "better" in lines([found])[1] and lines([found.to_dict()]) == lines([found])


SIGMA = 0.5
"""Of the logarithm of documents' sizes."""


def _drawn(kind: str, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Sizes, changes in bits, and the change of all bits over all bytes that they are drawn around."""
    sizes = np.maximum(1, np.round(np.exp(rng.normal(5, SIGMA, count))))
    if kind == "alike":
        return sizes, sizes * rng.normal(-0.1, 0.05, count), -0.1
    if kind == "nothing":
        return sizes, sizes * rng.normal(0.0, 0.05, count), 0.0
    # Longer documents change more: -.1 is the change of a byte in one of e^5 bytes, the whole's is E[size^2] / E[size].
    gaps = sizes * (-0.1 * sizes / np.exp(5) + rng.normal(0, 0.02, count))
    return sizes, gaps, -0.1 * float(np.exp(1.5 * SIGMA**2))


@pytest.mark.parametrize(("kind", "documents"), [("alike", 60), ("nothing", 60), ("longer more", 200)])
def test_intervals_cover_what_is_true_about_as_often_as_they_say(kind: str, documents: int):
    """95% of 300, give or take three standard errors (3.8 points)."""
    rng, covered, verdicts, trials = np.random.default_rng(1), 0, Counter[str](), 300
    for _ in range(trials):
        sizes, gaps, truth = _drawn(kind, rng, documents)
        texts = ["x" * int(size) for size in sizes]
        found = change("p", texts, np.zeros(documents), gaps, resamples=200, seed=0)
        assert found.low is not None and found.high is not None
        covered += found.low <= truth <= found.high
        verdicts[found.verdict] += 1
    assert 0.912 <= covered / trials <= 0.988
    if kind == "nothing":
        assert verdicts["no change to be told"] == covered
    else:
        assert verdicts["better"] == trials  # both are many standard errors below zero


def test_too_few_documents_have_no_interval():
    found = change("p", ["ab", "cd"], np.array([1.0, 2.0]), np.array([1.5, 2.0]), resamples=100, seed=0)
    assert (found.low, found.high, found.verdict) == (None, None, "too few documents to say")
    assert isinstance(found, Change) and "unknown" in lines([found])[1]
    with pytest.raises(DataError):
        change("p", [], np.array([]), np.array([]), resamples=100, seed=0)
