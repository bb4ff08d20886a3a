"""Bootstrap: scipy's BCa on the same resamples; clusters as a ratio; coverage."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.bootstrap import bootstrap_mean, bootstrap_ratio, resampled_means

RNG = np.random.default_rng(5)
SKEWED = RNG.lognormal(size=40)


def test_bca_is_scipys_on_the_same_resamples():
    means, _ = resampled_means(SKEWED, np.ones(40), 2000, seed=1)
    kept = SimpleNamespace(bootstrap_distribution=means)
    wanted = stats.bootstrap((SKEWED,), np.mean, n_resamples=0, bootstrap_result=kept).confidence_interval
    found = bootstrap_mean(SKEWED, resamples=2000, seed=1)
    assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=1e-12)


def test_bca_of_clusters_is_scipys_of_a_ratio():
    sizes = RNG.integers(1, 6, 30).astype(float)
    codes = np.repeat(np.arange(30), sizes.astype(int))
    values = RNG.normal(size=30)[codes] + RNG.normal(size=len(codes))
    sums = np.bincount(codes, values)
    means, _ = resampled_means(sums, sizes, 2000, seed=2)

    def ratio(total: np.ndarray, size: np.ndarray, axis: int = -1) -> np.ndarray:
        return total.sum(axis) / size.sum(axis)

    kept = SimpleNamespace(bootstrap_distribution=means)
    how = {"paired": True, "n_resamples": 0, "bootstrap_result": kept, "vectorized": True}
    wanted = stats.bootstrap((sums, sizes), ratio, **how).confidence_interval  # type: ignore[arg-type]
    found = bootstrap_mean(values, clusters=codes.tolist(), resamples=2000, seed=2)
    assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=1e-12) and found.clusters == 30


def test_counts_of_equal_items_are_the_same_distribution():
    """Two ways to draw the same thing: 20,000 means each, Kolmogorov-Smirnov at a level of 1e-3."""
    values = np.repeat([0.0, 1.0], 100)
    by_count, _ = resampled_means(values, np.ones(200), 20_000, seed=0)
    rng = np.random.default_rng(0)
    by_item = values[rng.integers(0, 200, (20_000, 200))].mean(1)
    assert by_count.std() == pytest.approx(by_item.std(), rel=0.03)
    assert stats.ks_2samp(np.round(by_count, 9), np.round(by_item, 9)).pvalue > 1e-3


def test_the_studentised_ends_are_the_formulas():
    means, errors = resampled_means(SKEWED, np.ones(40), 2000, seed=1, studentised=True)
    assert errors is not None
    own = SKEWED.std() / np.sqrt(40)
    low, high = np.quantile((means - SKEWED.mean()) / errors, [0.975, 0.025])
    found = bootstrap_mean(SKEWED, way="studentised", resamples=2000, seed=1)
    wanted = (SKEWED.mean() - low * own, SKEWED.mean() - high * own)
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-12)


def test_the_same_seed_gives_the_same_and_equal_items_have_no_spread():
    assert bootstrap_mean(SKEWED, seed=3) == bootstrap_mean(SKEWED, seed=3) != bootstrap_mean(SKEWED, seed=4)
    assert (bootstrap_mean([0.1] * 9).low, bootstrap_mean([0.1] * 9).high) == pytest.approx((0.1, 0.1))
    with pytest.raises(DataError, match="cluster"):
        bootstrap_mean([1.0, 2.0, 3.0], clusters=["a"] * 3)
    with pytest.raises(DataError, match="seldom"):
        bootstrap_mean([0.0] * 9 + [1.0], way="studentised")


def test_coverage():
    """600 draws of 60 items: the Monte Carlo error is .009, and BCa of 400 resamples loses about a point: .92 to
    .98."""
    rng, held = np.random.default_rng(1), 0
    for seed in range(600):
        found = bootstrap_mean(rng.normal(size=60), resamples=400, seed=seed)
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 600 <= 0.98


def test_a_ratio_is_as_scipy_has_it():
    rng = np.random.default_rng(3)
    sizes = rng.lognormal(5, 0.7, 60)
    sums = sizes * rng.gamma(2.0, 0.5, 60)
    ours = bootstrap_ratio(sums, sizes, resamples=20_000)
    theirs = stats.bootstrap(
        (sums, sizes), lambda a, b, axis=-1: a.sum(axis) / b.sum(axis), paired=True, n_resamples=20_000, rng=rng
    ).confidence_interval
    # ends of 20,000 resamples each: about a hundredth of the interval's length
    assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], abs=0.03 * (theirs.high - theirs.low))
    assert ours.value == pytest.approx(sums.sum() / sizes.sum()) and ours.n == 60 and ours.clusters is None
    with pytest.raises(DataError, match="above 0"):
        bootstrap_ratio([1.0, 2.0], [1.0, 0.0])
