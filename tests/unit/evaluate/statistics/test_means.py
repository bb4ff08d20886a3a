"""Means: against scipy, statsmodels and the matrices of the papers; coverage with few clusters."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import linalg, stats

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.means import estimate, mean, mean_spread, naive_clustered_error, rate, student_p

EXACT = 1e-10  # the same sums of a few hundred float64 in another order
RNG = np.random.default_rng(3)
VALUES = RNG.normal(size=60)
CLUSTERS = RNG.integers(0, 9, 60)


def test_students_t_is_scipys():
    wanted = stats.ttest_1samp(VALUES, 0.0)
    found = mean(VALUES, level=0.9)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval(0.9)), abs=EXACT)
    assert found.standard_error is not None
    assert student_p(found.value / found.standard_error, 59) == pytest.approx(wanted.pvalue, abs=EXACT)


def test_millers_error_is_statsmodels_without_correction():
    model = sm.OLS(VALUES, np.ones_like(VALUES))
    fitted = model.fit(cov_type="cluster", cov_kwds={"groups": CLUSTERS, "use_correction": False})
    assert naive_clustered_error(VALUES, CLUSTERS.tolist()) == pytest.approx(fitted.bse[0], abs=EXACT)


def test_cr2_is_its_matrices():
    """Bell and McCaffrey: residuals of each cluster times (I - H_gg)^(-1/2), in a sandwich."""
    ones = np.ones((60, 1))
    hat = ones @ ones.T / 60
    residuals, middle = VALUES - VALUES.mean(), 0.0
    for group in np.unique(CLUSTERS):
        own = group == CLUSTERS
        root = linalg.fractional_matrix_power(np.eye(own.sum()) - hat[np.ix_(own, own)], -0.5).real
        middle += float((ones[own].T @ root @ residuals[own]).item() ** 2)
    found = mean(VALUES, clusters=CLUSTERS.tolist())
    assert found.standard_error == pytest.approx(np.sqrt(middle) / 60, abs=EXACT)


def test_freedom_is_that_of_a_quadratic_form():
    """Satterthwaite's, from the items' whole covariance matrix with the estimated correlation inside clusters."""
    _, codes = np.unique(CLUSTERS, return_inverse=True)
    values = VALUES + RNG.normal(size=9)[codes]
    found = mean_spread(values, codes)
    off, same = values - values.mean(), codes[:, None] == codes[None, :]
    pairs = same & ~np.eye(60, dtype=bool)
    rho = float(np.clip(np.outer(off, off)[pairs].mean() / np.mean(off**2), 0, 1))
    assert rho > 0.1
    covariance = (1 - rho) * np.eye(60) + rho * same
    sizes = np.bincount(codes)
    rows = [(codes == g) / (60 * np.sqrt(1 - sizes[g] / 60)) for g in range(9)]
    form = np.array(rows) @ (np.eye(60) - np.ones((60, 60)) / 60)
    middle = form @ covariance @ form.T
    assert found.freedom == pytest.approx(np.trace(middle) ** 2 / np.trace(middle @ middle), rel=1e-9)


def test_many_clusters_take_no_matrix():
    """200,000 items in 100,000 clusters: a matrix of clusters would have 80 GB."""
    codes = np.repeat(np.arange(100_000), 2)
    found = mean_spread(RNG.normal(size=200_000), codes)
    assert found.freedom == pytest.approx(99_999, rel=1e-6)  # equal sizes: one less than there are clusters


def test_clusters_of_one_size_are_students_t_on_their_means():
    values, codes = RNG.normal(size=(12, 5)), np.repeat(np.arange(12), 5)
    wanted = stats.ttest_1samp(values.mean(1), 0.0).confidence_interval()
    found = mean(values.ravel(), clusters=codes.tolist())
    assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=EXACT) and found.clusters == 12


def test_a_rate_is_wilsons_and_with_clusters_longer():
    right = (VALUES > 0).astype(float)
    alone = rate(right)
    wanted = stats.binomtest(int(right.sum()), 60).proportion_ci(method="wilson")
    assert (alone.low, alone.high) == pytest.approx(tuple(wanted), abs=1e-9)
    together = rate(np.repeat(right, 4), clusters=np.repeat(np.arange(60), 4).tolist())
    # four copies of each item are worth no more than one: Wilson's on 60 items, t for z and n - 1 for n
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.03)
    assert together.high - together.low > alone.high - alone.low
    assert 0 < rate([1.0] * 40, clusters=[str(i // 4) for i in range(40)]).low < 0.75
    assert estimate(right).method == "Wilson" and estimate(VALUES).method == "Student's t"


def test_what_says_nothing_about_spread():
    for call in (lambda: mean([1.0]), lambda: mean([1.0, 2.0, 3.0], clusters=["a"] * 3), lambda: rate([0.5])):
        with pytest.raises(DataError):
            call()
    with pytest.raises(DataError):
        rate([1.0, 0.0], clusters=["a", "a"])


def test_coverage_with_twenty_clusters():
    """2,000 draws: a share of .95 has a Monte Carlo error of .0049, so that .935 to .965 is three of them. Without
    clusters four of five would hold the truth."""
    rng, held, naive = np.random.default_rng(11), 0, 0
    codes = np.repeat(np.arange(20), 5).tolist()
    for _ in range(2000):
        values = np.sqrt(0.4) * np.repeat(rng.normal(size=20), 5) + np.sqrt(0.6) * rng.normal(size=100)
        found, short = mean(values, clusters=codes), mean(values)
        held += found.low <= 0 <= found.high
        naive += short.low <= 0 <= short.high
    assert 0.935 <= held / 2000 <= 0.965
    assert naive / 2000 < 0.85


def test_a_leaning_mean_says_that_it_is_too_short():
    """Cochran's rule: 25 times the squared skewness, by scipy."""
    values = np.random.default_rng(1).lognormal(sigma=1.2, size=100)
    needed = 25 * stats.skew(values) ** 2
    assert needed > 100 and f"{int(np.ceil(needed)):,} are needed" in mean(values).caution
    assert not mean(np.tile(values, int(needed / 100) + 2)).caution  # the same skewness, enough of them
    assert not mean(VALUES).caution and not mean([0.5, 0.5, 0.5]).caution


def test_a_clustered_rate_near_one_says_that_it_is_too_short():
    codes = np.repeat(np.arange(20), 10)
    nearly = np.ones(200)
    nearly[[3, 57, 58, 140]] = 0
    half = np.tile([0.0, 1.0], 100)
    assert "clusters" in rate(nearly, clusters=codes.tolist()).caution
    assert not rate(half, clusters=codes.tolist()).caution and not rate(nearly).caution
