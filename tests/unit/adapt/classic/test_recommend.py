"""Recommending: least squares against their closed forms, metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from bloomery.adapt.classic.recommend import (
    FactorConfig,
    best_items,
    fit_factors,
    ndcg_at,
    popularity,
    recall_at,
)
from bloomery.core.errors import ConfigError, DataError


def _counts(seed: int, users: int = 12, items: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(0.7, (users, items))


def test_without_confidence_it_is_the_svd_with_smaller_singular_values():
    """min |P - XY'|^2 + a(|X|^2 + |Y|^2) has XY' = U max(S - a, 0) V' (Srebro et al., 2004: the trace norm)."""
    counts = _counts(0)
    penalty = 0.5
    fitted = fit_factors(counts, FactorConfig(factors=9, confidence=0.0, penalty=penalty, rounds=3000))
    left, values, right = np.linalg.svd((counts > 0).astype(float), full_matrices=False)
    expected = left * np.maximum(values - penalty, 0) @ right
    np.testing.assert_allclose(fitted.scores(range(12)), expected, atol=1e-6)


def test_each_side_is_the_weighted_ridge_of_the_other():
    """Items are solved last: each is the ridge regression of its column, weights being the confidences."""
    linear = pytest.importorskip("sklearn.linear_model")
    counts = _counts(1)
    config = FactorConfig(factors=3, confidence=4.0, penalty=0.7, rounds=2, seed=5)
    fitted = fit_factors(sparse.csr_matrix(counts), config)
    for item in range(counts.shape[1]):
        ridge = linear.Ridge(alpha=0.7, fit_intercept=False, solver="cholesky")
        ridge.fit(fitted.users, counts[:, item] > 0, sample_weight=1 + 4.0 * counts[:, item])
        np.testing.assert_allclose(fitted.items[item], ridge.coef_, atol=1e-9)


def test_it_finds_groups_where_popularity_cannot():
    """Two groups take from two halves of the items; a taste is found from few."""
    rng = np.random.default_rng(2)
    group = np.repeat([0, 1], 20)
    half = np.repeat([0, 1], 15)
    counts = (rng.random((40, 30)) < 0.4) * (group[:, None] == half[None, :])
    fitted = fit_factors(counts, FactorConfig(factors=2))
    popular = popularity(counts)
    np.testing.assert_array_equal(popular, counts.sum(axis=0))
    theirs = []
    for user in range(40):
        seen = np.flatnonzero(counts[user])
        found = best_items(fitted.scores([user])[0], 5, without=seen)
        assert not set(found) & set(seen)
        assert (half[found] == group[user]).all()
        theirs.append((half[best_items(popular, 5, without=seen)] == group[user]).mean())
    assert np.mean(theirs) < 0.8


def test_a_user_who_took_nothing_has_no_taste():
    counts = _counts(3)
    counts[4] = 0
    assert not fit_factors(counts, FactorConfig(factors=2)).scores([4]).any()


def test_the_same_seed_gives_the_same():
    one, two = (fit_factors(_counts(4), FactorConfig(factors=4)) for _ in range(2))
    np.testing.assert_array_equal(one.items, two.items)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_ndcg_is_scikit_learns(k: int):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(k)
    for _ in range(20):
        scores = rng.permutation(10).astype(float)
        wanted = np.flatnonzero(rng.random(10) < 0.4)
        if not len(wanted):
            continue
        truth = np.isin(np.arange(10), wanted).astype(float)
        expected = metrics.ndcg_score(truth[None], scores[None], k=k)
        assert ndcg_at(best_items(scores, k), wanted, k) == pytest.approx(expected, abs=1e-12)


def test_recall():
    assert recall_at([3, 1, 4], [1, 5]) == 0.5
    assert best_items([1.0, 3.0, 3.0, 2.0], 3).tolist() == [1, 2, 3]
    assert best_items([1.0, 3.0], 5, without=[1]).tolist() == [0]


def test_mistakes_are_said():
    with pytest.raises(DataError, match="positive"):
        fit_factors(np.zeros((2, 2)))
    with pytest.raises(DataError, match="positive"):
        fit_factors(np.array([[1, -1]]))
    with pytest.raises(DataError, match="nothing was wanted"):
        recall_at([1], [])
    with pytest.raises(DataError, match="nothing was wanted"):
        ndcg_at([1], [], 3)
    for wrong in ({"factors": 0}, {"penalty": 0.0}, {"confidence": -1.0}, {"rounds": 0}):
        with pytest.raises(ConfigError):
            FactorConfig(**wrong)
