"""Kappa: statsmodels' value and error, weighted or not; coverage."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.inter_rater import cohens_kappa

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.kappa import kappa


def said(seed: int, n: int = 80, values: int = 4, chance: float = 0.6) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(seed)
    one = rng.choice(values, n)
    return one.tolist(), np.where(rng.random(n) < chance, one, rng.choice(values, n)).tolist()


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@pytest.mark.parametrize("seed", range(4))
def test_is_statsmodels(weights: str, seed: int):
    one, other = said(seed)
    table = np.bincount(np.array(one) * 4 + np.array(other), minlength=16).reshape(4, 4)
    wanted = cohens_kappa(table, wt={"none": None}.get(weights, weights))
    found = kappa(one, other, weights=weights, order=range(4), way="analytic")  # type: ignore[arg-type]
    assert found.value == pytest.approx(wanted.kappa, abs=1e-12)
    assert found.standard_error == pytest.approx(wanted.std_kappa, abs=1e-10)
    # statsmodels' ends by the normal quantile too
    assert (found.low, found.high) == pytest.approx((wanted.kappa_low, wanted.kappa_upp), abs=1e-9)


def test_as_printed():
    """Fleiss, Cohen and Everitt 1969, table 1: kappa .429, its error for an interval .054 with N = 200."""
    shares = [[53, 5, 2], [11, 14, 5], [1, 6, 3]]
    cells = [(i, j) for i, row in enumerate(shares) for j, number in enumerate(row) for _ in range(2 * number)]
    found = kappa([a for a, _ in cells], [b for _, b in cells], way="analytic")
    assert found.n == 200 and found.value == pytest.approx(0.429, abs=5e-4)
    assert found.standard_error == pytest.approx(0.054, abs=1e-3)


def test_the_three_ways_agree_about_where_there_is_much():
    one, other = said(1, n=1000)
    ends = [
        (found.low, found.high)
        for way in ("posterior", "analytic", "bootstrap")
        if (found := kappa(one, other, way=way))
    ]
    assert ends[1] == pytest.approx(ends[0], abs=0.01) and ends[2] == pytest.approx(ends[0], abs=0.01)


def test_the_posterior_of_two_values_is_the_beta_binomials():
    """Answers that are all the same but one side: shares of a 2 x 2 table under Jeffreys' prior, drawn by scipy."""
    from scipy import stats

    counts = np.array([[20, 3], [2, 15]])
    cells = [(i, j) for i in range(2) for j in range(2) for _ in range(counts[i, j])]
    drawn = stats.dirichlet(counts.ravel() + 0.5).rvs(200_000, random_state=0)
    rows, columns = drawn[:, 0] + drawn[:, 1], drawn[:, 0] + drawn[:, 2]
    same, chance = drawn[:, 0] + drawn[:, 3], rows * columns + (1 - rows) * (1 - columns)
    wanted = np.quantile((same - chance) / (1 - chance), [0.025, 0.975])
    found = kappa([a for a, _ in cells], [b for _, b in cells], resamples=100_000)
    assert (found.low, found.high) == pytest.approx(
        tuple(wanted), abs=0.004
    )  # quantiles of 100,000 draws, three errors


def test_a_judge_that_always_agrees_is_not_known_for_certain():
    found = kappa(["a", "b"] * 20, ["a", "b"] * 20)
    assert found.value == 1 and found.low is not None and found.high is not None
    assert 0.8 < found.low < 0.95 and found.high < 1


def test_what_is_not_defined():
    found = kappa(["a"] * 5, ["a"] * 5)
    assert (found.value, found.low, found.high, found.same) == (None, None, None, 1.0) and "same" in found.text()
    for one, other in (([], []), (["a"], ["a", "b"])):
        with pytest.raises(DataError):
            kappa(one, other)


@pytest.mark.parametrize("truth", [0.3, 0.8])
def test_coverage(truth: float):
    """1,500 draws of 60 items, one value six times as common: the Monte Carlo error is .0056; 1.5 points and two
    errors."""
    rng, held, shares = np.random.default_rng(7), 0, [6 / 7, 1 / 7]
    for seed in range(1500):
        one = rng.choice(2, 60, p=shares)
        other = np.where(rng.random(60) < truth, one, rng.choice(2, 60, p=shares))
        found = kappa(one.tolist(), other.tolist(), resamples=500, seed=seed)
        if found.value is None:
            continue  # all alike, which happens once in thousands of draws: counted as missed
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    assert held / 1500 == pytest.approx(0.95, abs=0.015 + 2 * 0.0056)
