"""Stopping: a trial that is far behind is hopeless early, one that may yet win never, and noise alone stops nobody."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.training.sweep import SweepConfig
from bloomery.training.sweep.curve import Curve
from bloomery.training.sweep.stopping import Ended, chance_of_best, hopeless

SHARES = np.arange(1, 51) / 50
CONFIG = SweepConfig()


def _trial(floor: float, seed: int = 0) -> Ended:
    """A power law whose learning rate falls over the second half, which brings a twentieth more."""
    rng = np.random.default_rng(seed)
    losses = floor + 0.3 * SHARES**-0.5 + 0.005 * rng.standard_normal(50)
    losses *= 1 - 0.05 * np.clip(2 * SHARES - 1, 0, 1)
    return Ended(Curve(SHARES, losses), float(losses[-1]))


def _stopped_at(trial: Ended, ended: list[Ended]) -> float:
    return next((s for s in SHARES if hopeless(trial.curve.until(s), ended, CONFIG)), 1.0)


def test_without_any_that_ended_nobody_is_stopped():
    assert chance_of_best(_trial(9.0).curve.until(0.5), [], CONFIG) == 1.0
    assert _stopped_at(_trial(9.0), []) == 1.0


def test_a_trial_that_has_said_nothing_is_not_stopped():
    assert hopeless(Curve.of([]), [_trial(2.0)], SweepConfig(least_share=0.0)) == ""


def test_far_behind_is_hopeless_early_and_ahead_never():
    ended = [_trial(2.0, 1), _trial(2.1, 2)]
    assert _stopped_at(_trial(3.0, 3), ended) <= 0.12
    assert _stopped_at(_trial(1.7, 4), ended) == 1.0


def test_a_near_one_is_looked_at_longer_than_a_far_one():
    ended = [_trial(2.0, 1), _trial(2.05, 2)]
    assert _stopped_at(_trial(2.5, 3), ended) < _stopped_at(_trial(2.08, 3), ended)


def test_not_before_its_least_share_and_never_where_it_is_off():
    ended = [_trial(2.0, 1)]
    far = _trial(9.0)
    assert hopeless(far.curve.until(0.04), ended, CONFIG) == ""
    assert hopeless(far.curve.until(0.5), ended, SweepConfig(stop="never")) == ""
    assert hopeless(far.curve, ended, CONFIG) == ""


def test_the_reason_says_the_chance():
    why = hopeless(_trial(4.0).curve.until(0.5), [_trial(2.0, 1)], CONFIG)
    assert why.startswith("a chance of 0.0% to be the best, at 50%")


def test_losses_that_are_no_numbers():
    broken = Curve(SHARES[:10], np.full(10, math.nan))
    assert hopeless(broken, [_trial(2.0, 1)], CONFIG) == "its loss is not finite"


@pytest.mark.parametrize("seed", range(3))
def test_a_sweep_of_equals_misses_hardly_anything(seed):
    """Forty trials that differ by a fifth at most, in any order: the best that is let end is within a hundredth."""
    rng = np.random.default_rng(seed)
    trials = [_trial(2.0 + 0.4 * rng.random(), 100 + n) for n in range(40)]
    ended: list[Ended] = []
    for trial in trials:
        if _stopped_at(trial, ended) == 1.0:
            ended.append(trial)
    assert min(one.value for one in ended) <= 1.01 * min(one.value for one in trials) and len(ended) < 20
