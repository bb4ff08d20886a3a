"""Agreement against scikit-learn, statsmodels, the package krippendorff, and worked examples in print."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from bloomery.core.errors import DataError
from bloomery.corpus.annotation.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha

# All compare sums of the same few hundred products in float64, in another order.
EXACT = 1e-12
# Four observers, twelve units (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C).
PRINTED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def ratings(seed: int, raters: int, items: int = 60, values: int = 4, missing: float = 0.0) -> np.ndarray:
    """(items, raters), each right with a chance of .6; nan where missing."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(values, size=(items, 1))
    noise = rng.integers(values, size=(items, raters))
    said = np.where(rng.random((items, raters)) < 0.6, truth, noise).astype(float)
    return np.where(rng.random(said.shape) < missing, np.nan, said)


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@pytest.mark.parametrize("seed", range(5))
def test_cohens_kappa_is_scikit_learns(weights: str, seed: int):
    one, other = ratings(seed, 2).astype(int).T
    wanted = cohen_kappa_score(one, other, labels=[0, 1, 2, 3], weights=None if weights == "none" else weights)
    found = cohen_kappa(one.tolist(), other.tolist(), weights=weights, order=[0, 1, 2, 3], resamples=0)
    assert found.value == pytest.approx(wanted, abs=EXACT)


def test_cohens_kappa_passes_over_what_is_missing():
    found = cohen_kappa(["a", "a", None, "b"], ["a", "b", "a", None], resamples=0)
    assert found.documents == 2 and found.value == pytest.approx(cohen_kappa_score(["a", "a"], ["a", "b"]), abs=EXACT)


@pytest.mark.parametrize("seed", range(5))
def test_fleiss_kappa_is_statsmodels(seed: int):
    said = ratings(seed, 5).astype(int)
    wanted = statsmodels_fleiss(aggregate_raters(said)[0])
    assert fleiss_kappa(said.tolist(), resamples=0).value == pytest.approx(wanted, abs=EXACT)


def test_fleiss_kappa_as_printed():
    """The worked example of Fleiss 1971 as Wikipedia gives it: fourteen raters, ten subjects, kappa .210."""
    table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    said = [[value for value, number in enumerate(row) for _ in range(number)] for row in table]
    assert fleiss_kappa(said, resamples=0).value == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_needs_as_many_answers_everywhere():
    with pytest.raises(DataError, match="as many answers"):
        fleiss_kappa([["a", "a"], ["a"]])


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_the_packages_with_answers_missing(level: str, seed: int):
    said = ratings(seed, 4, missing=0.4)
    wanted = krippendorff.alpha(reliability_data=said.T, level_of_measurement=level)
    rows = [[None if np.isnan(one) else int(one) for one in row] for row in said]
    found = krippendorff_alpha(rows, level=level, resamples=0)
    assert found.value == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("level, wanted", [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_as_printed(level: str, wanted: float):
    found = krippendorff_alpha(list(zip(*PRINTED, strict=True)), level=level, resamples=0)
    assert found.value == pytest.approx(wanted, abs=5e-4)
    assert found.documents == 11 and found.answers == 40


def test_values_that_nobody_gave_change_nothing():
    rows = list(zip(*PRINTED, strict=True))
    given = krippendorff_alpha(rows, level="ordinal", order=range(1, 6), resamples=0)
    more = krippendorff_alpha(rows, level="ordinal", order=range(9), resamples=0)
    assert given.value == pytest.approx(more.value, abs=EXACT)


def test_where_all_answers_are_the_same_nothing_is_defined():
    same = [["a", "a"]] * 5
    for found in (fleiss_kappa(same), krippendorff_alpha(same), cohen_kappa(["a"] * 5, ["a"] * 5)):
        assert (found.value, found.low, found.high) == (None, None, None)
    assert krippendorff_alpha([["a"], [None, "b"]]).documents == 0


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Of 60 draws of 80 documents; a right 95% interval leaves 3 out, more than 9 has a chance of 1e-3."""
    truth = krippendorff_alpha(ratings(99, 3, items=20_000).tolist(), resamples=0).value
    assert truth is not None
    left_out = 0
    for seed in range(60):
        found = krippendorff_alpha(ratings(seed, 3, items=80).tolist(), resamples=80, seed=seed)
        assert found.low is not None and found.high is not None
        left_out += not found.low <= truth <= found.high
    assert left_out <= 9


def test_the_same_seed_gives_the_same_interval():
    rows = ratings(0, 3).tolist()
    assert krippendorff_alpha(rows, seed=4) == krippendorff_alpha(rows, seed=4)


def test_an_interval_scale_needs_numbers():
    with pytest.raises(DataError, match="numbers"):
        krippendorff_alpha([["a", "b"]], level="interval")
