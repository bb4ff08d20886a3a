"""Halving: all trials for a little while, the better ones for longer, and so on to the end of the best few.

Successive halving (Jamieson and Talwalkar, AISTATS 2016) with trials that are paused, not lost: who is let on goes on
from its checkpoint, to the bit. A trial's standing at a rung is the mean of its last training losses (training-speed
estimation, see `curve`). Early on it ranks badly, for a high rate or a large batch shows late what it is worth; so the
first rung leaves out only the worst, and most are left out where curves have sorted themselves. This module does not
know how trials are run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from bloomery.training.sweep.curve import Curve

RUNGS: tuple[tuple[float, float], ...] = ((0.06, 0.6), (0.3, 0.17), (0.5, 0.06))
"""(share of a trial's steps, share of all trials that are let on from there)."""
K = TypeVar("K")


def let_on(curves: Mapping[K, Curve], rung: int, total: int, rungs: Sequence[tuple[float, float]] = RUNGS) -> list[K]:
    """Who goes on beyond a rung, best first, of those that have come to it; `total` counts all trials there were.

    At least one; a trial whose losses are not finite never, nor one that has not come that far. Of one that went on
    with another's training, and says its first losses beyond the rung, those stand for what came before.
    """
    share, kept = rungs[rung]
    there = {
        key: curve.until(max(share, float(curve.shares[0])))
        for key, curve in curves.items()
        if len(curve.shares) and curve.share >= share - 1e-9
    }
    standing = {key: curve.standing() for key, curve in there.items()}
    ranked = sorted((key for key in standing if math.isfinite(standing[key])), key=lambda key: standing[key])
    return ranked[: max(1, round(kept * total))]
