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
    found = kappa(one, other, weights=weights, order=range(4), way="plain")  # type: ignore[arg-type]
    assert found.value == pytest.approx(wanted.kappa, abs=1e-12)
    assert found.standard_error == pytest.approx(wanted.std_kappa, abs=1e-10)
    # statsmodels' ends by the normal quantile too
    assert (found.low, found.high) == pytest.approx((wanted.kappa_low, wanted.kappa_upp), abs=1e-9)


def test_as_printed():
    """Fleiss, Cohen and Everitt 1969, table 1: kappa .429, its error for an interval .054 with N = 200."""
    shares = [[53, 5, 2], [11, 14, 5], [1, 6, 3]]
    cells = [(i, j) for i, row in enumerate(shares) for j, number in enumerate(row) for _ in range(2 * number)]
    found = kappa([a for a, _ in cells], [b for _, b in cells], way="plain")
    assert found.n == 200 and found.value == pytest.approx(0.429, abs=5e-4)
    assert found.standard_error == pytest.approx(0.054, abs=1e-3)


def test_fishers_scale_and_bootstrap_agree_about():
    one, other = said(1, n=400)
    fisher, boot = kappa(one, other), kappa(one, other, way="bootstrap", resamples=2000)
    assert fisher.low is not None and boot.low is not None and fisher.high is not None and boot.high is not None
    assert (fisher.low, fisher.high) == pytest.approx((boot.low, boot.high), abs=0.015)


def test_what_is_not_defined():
    found = kappa(["a"] * 5, ["a"] * 5)
    assert (found.value, found.low, found.high, found.same) == (None, None, None, 1.0) and "same" in found.text()
    for one, other in (([], []), (["a"], ["a", "b"])):
        with pytest.raises(DataError):
            kappa(one, other)


@pytest.mark.parametrize("truth", [0.3, 0.8])
def test_coverage(truth: float):
    """1,500 draws of 200 items: the Monte Carlo error is .0056; 1.5 points and two errors."""
    rng, held = np.random.default_rng(7), 0
    for _ in range(1500):
        one = rng.choice(2, 200, p=[0.6, 0.4])
        other = np.where(rng.random(200) < truth, one, rng.choice(2, 200, p=[0.6, 0.4]))
        found = kappa(one.tolist(), other.tolist())
        assert found.low is not None and found.high is not None
        held += found.low <= truth <= found.high
    assert held / 1500 == pytest.approx(0.95, abs=0.015 + 2 * 0.0056)
