"""Verdicts: their sentence, Holm over arms, no finding where there is nothing, and that what is needed is enough."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.verdict import compare_all, compare_pair


def pair(rng: np.random.Generator, n: int, more: float, less: float) -> tuple[np.ndarray, np.ndarray]:
    kind = rng.random(n)
    a = (kind < more) | (kind > 0.6)
    return a.astype(float), (((kind >= more) & (kind < more + less)) | (kind > 0.6)).astype(float)


def test_sentences():
    a, b = [1.0] * 30 + [0.0] * 70, [0.0] * 30 + [0.0] * 70
    better = compare_pair(a, b, names=("tuned", "prompted"))
    assert better.better == "tuned" and better.outcome == "A better" and better.needed is None
    # where B alone is never right, Tango's interval is Wilson's of 30 in 100
    assert better.sentence() == "tuned is better than prompted by 0.300 (0.219 to 0.396; n = 100, p = 1.9e-09)."
    worse = compare_pair(b, a, names=("prompted", "tuned"))
    assert worse.outcome == "B better" and worse.sentence() == better.sentence()
    same = compare_pair(a, a)
    assert same.needed is None and "no number of items" in same.sentence() and same.better is None
    close = compare_pair(*pair(np.random.default_rng(0), 100, 0.12, 0.08))
    assert close.needed is not None and f"about {close.needed:,} needed" in close.sentence()
    assert close.to_dict()["sentence"] == close.sentence() and close.to_dict()["difference"]["sd"] > 0


def test_where_there_is_nothing_nothing_is_found():
    """2,000 runs of two equally good: an exact test finds something in 5% at most, and Monte Carlo errors of .0049."""
    rng = np.random.default_rng(4)
    found = sum(compare_pair(*pair(rng, 200, 0.1, 0.1)).better is not None for _ in range(2000))
    assert found / 2000 <= 0.05 + 2 * 0.0049


def test_what_is_needed_is_about_enough():
    """Items for which four of five runs find the difference: 1,000 runs know that to .013; exact McNemar is a few
    points below Connor's normal approximation."""
    rng = np.random.default_rng(5)
    small = compare_pair(*pair(np.random.default_rng(1), 2000, 0.13, 0.11))
    from bloomery.evaluate.statistics.power import needed_paired_binary

    n = needed_paired_binary(0.06, 0.24)
    assert n is not None and small.difference.binary
    found = sum(compare_pair(*pair(rng, n, 0.15, 0.09)).outcome == "A better" for _ in range(1000))
    assert 0.74 <= found / 1000 <= 0.84


def test_several_arms():
    rng = np.random.default_rng(6)
    a, b = pair(rng, 300, 0.2, 0.08)
    scores = {"a": a, "b": b, "c": pair(rng, 300, 0.1, 0.1)[0]}
    found = compare_all(scores)
    assert [(one.a, one.b) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(one.comparisons == 3 and one.p_value >= one.difference.p_value for one in found)
    assert "Holm over 3" in found[0].sentence()
    assert [(one.a, one.b) for one in compare_all(scores, against="b")] == [("a", "b"), ("c", "b")]
    with pytest.raises(DataError):
        compare_all(scores, against="nobody")
    assert compare_all({"a": a}) == ()
