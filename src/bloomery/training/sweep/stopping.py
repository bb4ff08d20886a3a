"""Stopping: whether a trial will hardly be the best, from its losses so far and those of other trials.

Two estimates of where a trial ends, each set against trials that were let end: its standing (the sum of its last
losses) and its extrapolation. Between either and the final figure lies what the rest of the schedule brings; how much
that is, and how much it varies, is taken from the trials that ended. A trial is hopeless when both give it hardly a
chance. This module does not know how trials are run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.training.sweep.config import SweepConfig
from bloomery.training.sweep.curve import Curve, extrapolated

_PRIOR_SPREAD, _PRIOR_TRIALS = 0.02, 2
"""Spread of what the rest of a schedule brings, as a share of the loss, and how many trials that guess counts for."""


@dataclass(frozen=True)
class Ended:
    """A trial that was let end: its curve and its final figure, of which less is better."""

    curve: Curve
    value: float


def chance_of_best(curve: Curve, ended: Sequence[Ended], config: SweepConfig) -> float:
    """The chance that a trial ends below the best of those that ended, by more than the tolerance; 1 without any."""
    if not ended:
        return 1.0
    goal = min(one.value for one in ended) * (1 - config.tolerance)
    return max(_chance(curve, ended, goal, by_law) for by_law in (False, True))


def hopeless(curve: Curve, ended: Sequence[Ended], config: SweepConfig) -> str:
    """Why a trial should be stopped; "" if it should go on."""
    if config.stop == "never" or not len(curve.shares) or not config.least_share <= curve.share < 1:
        return ""
    if not np.isfinite(curve.losses).all():
        return "its loss is not finite"
    chance = chance_of_best(curve, ended, config)
    if chance >= config.chance:
        return ""
    return f"a chance of {chance:.1%} to be the best, at {curve.share:.0%} of its steps"


def _chance(curve: Curve, ended: Sequence[Ended], goal: float, by_law: bool) -> float:
    estimate, own = extrapolated(curve) if by_law else (curve.standing(), 0.0)
    if not math.isfinite(estimate):
        return 0.0
    ratios = []
    for one in ended:
        then = one.curve.until(curve.share)
        if not len(then.losses):
            continue
        theirs = extrapolated(then)[0] if by_law else then.standing()
        if math.isfinite(theirs) and theirs > 0:
            ratios.append(one.value / theirs)
    if not ratios:
        return 1.0
    # What the rest brings shrinks as there is less of it.
    prior = _PRIOR_SPREAD * (1 - curve.share)
    mean = float(np.mean(ratios))
    squares = float(np.sum((np.array(ratios) - mean) ** 2)) + _PRIOR_TRIALS * prior**2
    spread = math.sqrt(squares / (len(ratios) - 1 + _PRIOR_TRIALS) * (1 + 1 / len(ratios)))
    deviation = math.hypot(estimate * spread, own * mean)
    return 0.5 * math.erfc((estimate * mean - goal) / (deviation * math.sqrt(2)) if deviation else math.inf)
