"""Where no arm is better the verdict says so in 95 of 100 runs and more; where one is, it is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bloomery.adapt.comparison.simulation import Simulation, _scores, simulated
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize("arms", [2, 5])
def test_no_difference_is_called_none(arms):
    found = simulated(Simulation(arms=arms, runs=100, seed=1))
    # 5% by mistake at most; exact McNemar with Holm stays below: 5 of 100 is the bar itself, nothing is added to it
    assert found.told_apart <= 5 and found.best_left >= 95


def test_a_difference_is_found():
    found = simulated(Simulation(arms=3, lift=0.2, items=300, runs=40))
    assert found.best_alone >= 36 and found.best_left == 40


def test_clusters_are_drawn_and_heeded():
    """Questions of a passage that share their difficulty wholly are one question: a test that knew no clusters would
    call noise a difference far more often than one run in twenty."""
    config = Simulation(arms=2, items=120, cluster_size=12, correlation=0.0, runs=60, seed=3)
    rng = np.random.Generator(np.random.PCG64(0))
    shared = Simulation(arms=2, items=6000, cluster_size=12, correlation=0.9)
    one, _ = _scores(shared, rng)
    within = one.reshape(-1, 12).var(axis=1).mean()
    assert within < 0.5 * one.var()  # most of what differs does so between passages
    found = simulated(config)
    most = stats.binom.ppf(0.999, config.runs, config.alpha)
    assert found.told_apart <= most and found.best_left >= config.runs - most


def test_scores_have_the_rates_and_the_correlation_that_are_asked_for():
    rng = np.random.Generator(np.random.PCG64(0))
    for correlation in (0.0, 0.6):
        config = Simulation(arms=3, items=200_000, rate=0.7, lift=0.1, correlation=correlation)
        scores = _scores(config, rng)
        # four standard errors of a share of 200,000
        assert scores.mean(axis=1) == pytest.approx([0.7, 0.7, 0.8], abs=4 * np.sqrt(0.21 / 200_000))
        # both right: the bivariate normal's orthant, by scipy
        both = stats.multivariate_normal(cov=[[1, correlation], [correlation, 1]]).cdf([stats.norm.ppf(0.7)] * 2)
        assert (scores[0] * scores[1]).mean() == pytest.approx(both, abs=4 * np.sqrt(0.25 / 200_000))


def test_marks_between_0_and_1():
    marks = simulated(Simulation(arms=2, items=60, binary=False, lift=0.15, runs=5))
    assert marks.best_left == 5 and marks.to_dict()["runs"] == 5
    drawn = _scores(Simulation(arms=2, items=100, binary=False), np.random.Generator(np.random.PCG64(0)))
    assert 0 <= drawn.min() < 0.2 and 0.8 < drawn.max() <= 1 and len(np.unique(drawn)) == 200


def test_what_cannot_be_drawn():
    for wrong in ({"arms": 1}, {"rate": 0.9, "lift": 0.2}, {"correlation": 1.0}):
        with pytest.raises(ConfigError):
            Simulation(**wrong)
