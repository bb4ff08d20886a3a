"""The guard: what is no number is refused, spikes by median and MAD, and what it remembers is plain data."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from bloomery.training.guard import Guard


def _warm(guard: Guard, losses) -> None:
    for loss in losses:
        assert guard.judge(float(loss), 1.0) == ""


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_from_the_first_step(bad: float):
    assert Guard().judge(bad, 1.0).startswith("loss is")
    assert Guard().judge(1.0, bad).startswith("gradient norm is")


def test_without_deviations_no_spike():
    guard = Guard()
    _warm(guard, [3.0] * 40)
    assert guard.judge(300.0, 1e6) == ""


def test_a_spike_is_named_and_not_remembered():
    guard = Guard(12.0)
    _warm(guard, 3 + 0.05 * np.random.default_rng(0).standard_normal(64))
    why = guard.judge(7.2, 1.0)
    assert why.startswith("loss 7.2 where the median of the last 64 steps is 3")
    assert guard.judge(3.0, 80.0).startswith("gradient norm 80")
    assert guard.judge(3.0, 1.0) == ""


def test_the_spread_is_scipys_and_outliers_do_not_move_it():
    """Of values with outliers the rule stands where `median_abs_deviation` of scipy, scaled to a normal, says."""
    losses = 40 + np.random.default_rng(1).standard_normal(64)
    losses[:6] = 47
    spread = stats.median_abs_deviation(losses, scale="normal")
    edge = float(np.median(losses) + 30 * spread)
    for loss, spiked in ((edge - 0.01, False), (edge + 0.01, True)):
        guard = Guard(30.0)
        _warm(guard, losses[6:])
        guard.load_state_dict({"losses": losses.tolist(), "norms": [1.0] * 64})
        assert bool(guard.judge(loss, 1.0)) == spiked


def test_a_falling_loss_is_no_spike():
    guard = Guard(12.0)
    _warm(guard, 10 * np.arange(1, 300) ** -0.3)


def test_small_losses_and_few_steps_are_no_spikes():
    guard = Guard(12.0)
    _warm(guard, [0.01] * 64)
    assert guard.judge(0.5, 1.0) == ""
    guard = Guard(12.0)
    _warm(guard, [3.0] * 15)
    assert guard.judge(30.0, 1.0) == ""


def test_heavy_tailed_losses_of_batches_are_not_called_spikes():
    """A thousand batches of 64 sequences whose losses have Student's t of 3 degrees of freedom: no alarm."""
    rng = np.random.default_rng(2)
    guard = Guard(12.0)
    _warm(guard, 3 + rng.standard_t(3, size=(1000, 64)).mean(1))


def test_state_round_trip_is_exact():
    rng = np.random.default_rng(3)
    one, other = Guard(5.0), Guard(5.0)
    _warm(one, rng.random(80) + 2)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert other.state_dict() == one.state_dict()
    assert one.judge(9.0, 1.0) == other.judge(9.0, 1.0) != ""
