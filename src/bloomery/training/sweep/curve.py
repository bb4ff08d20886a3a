"""Curve: the training losses of a trial by share of its steps, summed up and carried on to the end.

Training-speed estimation (Ru et al., "Speedy Performance Estimation for Neural Architecture Search", NeurIPS 2021)
takes the sum of the losses so far as the trial's standing; of the last part alone it ranks better, for what is long ago
was the same for all. Extrapolation (Domhan et al., IJCAI 2015) fits a power law to the losses and says, with a spread,
where it ends. This module does not know other trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_LEAST_POINTS = 5
_EXPONENTS = np.linspace(0.05, 1.5, 30)


@dataclass(frozen=True)
class Curve:
    """`shares` of the steps, ascending up to 1, and the mean training loss from each to the one before."""

    shares: np.ndarray
    losses: np.ndarray

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> Curve:
        """From (share, loss) pairs."""
        found = np.array(sorted(points), dtype=float).reshape(-1, 2)
        return cls(found[:, 0], found[:, 1])

    @property
    def share(self) -> float:
        """How far it goes."""
        return float(self.shares[-1]) if len(self.shares) else 0.0

    def until(self, share: float) -> Curve:
        """The part up to a share."""
        kept = self.shares <= share + 1e-9
        return Curve(self.shares[kept], self.losses[kept])

    def standing(self) -> float:
        """Mean training loss over the second half of what there is: the sum of losses, of a part of equal length in
        each trial."""
        last = self.shares > self.share / 2
        widths = np.diff(np.concatenate(([0.0], self.shares)))[last]
        return float(np.average(self.losses[last], weights=widths))


def extrapolated(curve: Curve) -> tuple[float, float]:
    """Mean and standard deviation of the loss at the end, by a power law E + A share^-k; (nan, inf) where there are
    too few points. The exponent is tried out; E and A then are linear, E at least 0."""
    burn = curve.shares > curve.share / 10  # the fall from chance is no part of the power law
    x, y = curve.shares[burn], curve.losses[burn]
    if len(x) < _LEAST_POINTS:
        return math.nan, math.inf
    powers = x ** -_EXPONENTS[:, None]
    # Least squares of y on each row of powers, in closed form; through the origin where the floor would be negative.
    centred = powers - powers.mean(1, keepdims=True)
    heights = centred @ (y - y.mean()) / (centred**2).sum(1)
    floors = y.mean() - heights * powers.mean(1)
    low = floors < 0
    heights[low], floors[low] = powers[low] @ y / (powers[low] ** 2).sum(1), 0.0
    squares = ((y - floors[:, None] - heights[:, None] * powers) ** 2).sum(1)
    ends = floors + heights
    variance = squares.min() / max(1, len(x) - 3)
    # Each exponent counts by its likelihood, as in a posterior over it with a flat prior.
    weights = np.exp(-0.5 * (squares - squares.min()) / max(variance, 1e-12))
    weights /= weights.sum()
    mean = float(weights @ ends)
    # Of a line's value at 1, where its features have these means and sums of squares.
    at_end = variance * (1 / len(x) + (1 - powers.mean(1)) ** 2 / (centred**2).sum(1))
    # The variance is an estimate, too: Student's t with as many degrees is wider than a normal by this.
    wider = max(1, len(x) - 3) / max(1, len(x) - 5)
    return mean, math.sqrt(float(weights @ ((ends - mean) ** 2 + at_end)) * wider)
