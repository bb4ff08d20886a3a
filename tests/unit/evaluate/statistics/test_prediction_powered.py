"""Prediction-powered means: what the authors' package gives, and coverage with few labels."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.prediction_powered import prediction_powered_mean

ITEMS = np.arange(2200)
TRUTH = ((ITEMS * 7919) % 101) / 100
SAID = np.clip(TRUTH + (((ITEMS * 104729) % 97) / 97 - 0.5) * 0.6 + 0.05, 0, 1)
# ppi-python 0.2.3: ppi_mean_ci(..., alpha=0.05, lam=1 or None) and ppi_mean_pointestimate on the data above.
PUBLISHED = {
    (100, 1.0): (0.4690363434721103, 0.5361748494586702, 0.5026055964653903),
    (100, None): (0.4717255161880783, 0.5320618492028658, 0.5018936826954721),
    (200, 1.0): (0.4743114636191369, 0.5265069899891105, 0.5004092268041237),
    (200, None): (0.4771470025629313, 0.5240292406666683, 0.5005881216147998),
}


@pytest.mark.parametrize("n, trust", PUBLISHED)
def test_is_the_authors(n: int, trust: float | None):
    low, high, value = PUBLISHED[n, trust]
    found = prediction_powered_mean(TRUTH[:n], SAID[:n], SAID[n:], trust=trust)
    assert found.estimate.value == pytest.approx(value, abs=1e-12)
    # theirs divides by n and takes the normal quantile: ours is longer by (1 + 1.5/n)(1 + 1.2/n) or so
    assert 1 < (found.estimate.high - found.estimate.low) / (high - low) < 1 + 4 / n


def test_a_good_judge_is_worth_labels_and_a_bad_one_is_not():
    good = prediction_powered_mean(TRUTH[:100], SAID[:100], SAID[100:])
    assert good.labels_worth > 200 and 0.5 < good.trust <= 1 and good.labelled == 100 and good.unlabelled == 2100
    bad = prediction_powered_mean(TRUTH[:100], np.random.default_rng(0).permutation(SAID[:100]), SAID[100:])
    assert bad.trust < 0.2 and 85 < bad.labels_worth < 115
    constant = prediction_powered_mean([0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1])
    assert constant.trust == 0 and constant.estimate.value == 0.5
    assert good.to_dict()["estimate"]["method"].startswith("PPI++")


def test_what_are_no_labels():
    for given in (([0, 1], [0, 1], [1, 1]), ([0, 1, 1], [0, 1], [1, 1]), ([0, 1, 1], [0, 1, 1], [1])):
        with pytest.raises(DataError):
            prediction_powered_mean(*given)


@pytest.mark.parametrize("n", [50, 200])
def test_coverage(n: int):
    """2,000 draws: the Monte Carlo error is .0049; 1.5 points and two errors."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(2000):
        truth = (rng.random(n + 500) < 0.7).astype(float)
        said = np.where(rng.random(n + 500) < 0.7, truth, rng.random(n + 500) < 0.5)
        found = prediction_powered_mean(truth[:n], said[:n], said[n:]).estimate
        held += found.low <= 0.7 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015 + 2 * 0.0049)


def test_few_labels_of_a_judge_that_is_nearly_always_right_say_so():
    said = np.tile([0.0, 1.0], 10)
    labels = said.copy()
    labels[0] = 1.0
    unlabelled = np.tile([0.0, 1.0], 500)
    assert "too short" in prediction_powered_mean(labels, said, unlabelled).estimate.caution
    labels[:] = np.tile([0.0, 1.0, 1.0, 0.0], 5)  # wrong either way, equally often
    assert not prediction_powered_mean(labels, said, unlabelled, trust=1.0).estimate.caution
