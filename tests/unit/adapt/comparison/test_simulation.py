"""Where no arm is better the verdict says so in 95 of 100 runs and more; where one is, it is found."""

from __future__ import annotations

import pytest

from bloomery.adapt.comparison.simulation import Simulation, simulated
from bloomery.core.errors import ConfigError


@pytest.mark.parametrize("arms", [2, 5])
def test_no_difference_is_called_none(arms):
    found = simulated(Simulation(arms=arms, runs=100, seed=1))
    # 5% by mistake at most; exact McNemar with Holm stays below: 5 of 100 is the bar itself, nothing is added to it
    assert found.told_apart <= 5 and found.best_left >= 95


def test_a_difference_is_found():
    found = simulated(Simulation(arms=3, lift=0.2, items=300, runs=40))
    assert found.best_alone >= 36 and found.best_left == 40


def test_clusters_and_marks_between_0_and_1():
    found = simulated(Simulation(arms=2, items=100, cluster_size=5, runs=15))
    assert found.told_apart <= 3  # binomial, 15 runs at 5%: 99.5% of draws
    marks = simulated(Simulation(arms=2, items=60, binary=False, lift=0.15, runs=5))
    assert marks.best_left == 5


def test_what_cannot_be_drawn():
    for wrong in ({"arms": 1}, {"rate": 0.9, "lift": 0.2}, {"correlation": 1.0}):
        with pytest.raises(ConfigError):
            Simulation(**wrong)
