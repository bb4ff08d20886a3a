"""Calibration: scores into probabilities that mean what they say, and how far off they are.

Platt's sigmoid (Platt 1999, with the targets and the Newton iteration of Lin, Lin and Weng 2007) or isotonic regression
(pool adjacent violators, Ayer et al. 1955). This module does not know where scores come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["platt", "isotonic"]
BINS = 10
_STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """A monotone map from scores to probabilities: knots of a sigmoid (slope, offset) or of a broken line."""

    method: Method
    x: tuple[float, ...]
    y: tuple[float, ...]

    @classmethod
    def fit(cls, scores: Floats, labels: NDArray[np.bool_], method: Method = "platt") -> Calibration:
        """`scores` (N,), `labels` (N,) true for good ones; both kinds must occur."""
        if method == "platt":
            slope, offset = _platt(scores, labels)
            return cls("platt", (slope,), (offset,))
        x, y = _isotonic(scores, labels.astype(np.float64))
        return cls("isotonic", tuple(x.tolist()), tuple(y.tolist()))

    def __call__(self, scores: Floats) -> Floats:
        """(N,) scores to (N,) probabilities."""
        if self.method == "platt":
            return 1.0 / (1.0 + np.exp(-np.clip(self.x[0] * scores + self.y[0], -500, 500)))
        return np.interp(scores, self.x, self.y)

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}


def folds(labels: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """(N,) the fold of each: every fold has its share of both kinds, in the order in which they came."""
    fold = np.empty(len(labels), np.int64)
    for kind in (labels, ~labels):
        fold[kind] = np.arange(int(kind.sum())) % count
    return fold


def held_out_probabilities(
    scores: Floats, labels: NDArray[np.bool_], fold: NDArray[np.int64], method: Method = "platt"
) -> Floats:
    """(N,) probabilities, those of each fold by a calibration that is fitted on the others."""
    found = np.empty(len(labels))
    for number in np.unique(fold):
        inside = fold == number
        found[inside] = Calibration.fit(scores[~inside], labels[~inside], method)(scores[inside])
    return found


def _platt(scores: Floats, labels: NDArray[np.bool_]) -> tuple[float, float]:
    """(slope, offset) that minimise the cross-entropy with targets (n+1)/(n+2) and 1/(m+2) instead of 1 and 0."""
    good, bad = int(labels.sum()), int((~labels).sum())
    targets = np.where(labels, (good + 1) / (good + 2), 1 / (bad + 2))
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    theta = np.array([0.0, np.log((good + 1) / (bad + 1))])

    def loss(at: NDArray[np.floating[Any]]) -> float:
        z = design @ at
        return float((np.logaddexp(0, z) - targets * z).sum())

    current = loss(theta)
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -500, 500)))
        gradient = design.T @ (p - targets)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        there = loss(theta - step)
        while size > 1e-10 and there > current - 1e-4 * size * float(gradient @ step):
            size /= 2
            there = loss(theta - size * step)
        if size <= 1e-10 or current - there < 1e-12:
            break
        theta, current = theta - size * step, there
    return float(theta[0]), float(theta[1])


def _isotonic(scores: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Knots (x ascending, y ascending) of the least-squares monotone fit: the two ends of each block."""
    x, inverse, weights = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, values) / weights
    blocks: list[list[float]] = []  # mean, weight, first, last
    for place, (mean, weight) in enumerate(zip(means.tolist(), weights.tolist(), strict=True)):
        blocks.append([mean, float(weight), place, place])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean, weight, _, last = blocks.pop()
            before = blocks[-1]
            before[0] = (before[0] * before[1] + mean * weight) / (before[1] + weight)
            before[1] += weight
            before[3] = last
    ends = [(x[int(at)], block[0]) for block in blocks for at in sorted({block[2], block[3]})]
    return np.array([at for at, _ in ends]), np.array([mean for _, mean in ends])


def reliability(probabilities: Floats, labels: NDArray[np.bool_], bins: int = BINS) -> list[dict[str, float]]:
    """For each bin of equal width that holds any: how many, their mean probability, and the share that are good."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    table = []
    for number in range(bins):
        inside = place == number
        if count := int(inside.sum()):
            table.append(
                {
                    "from": number / bins,
                    "to": (number + 1) / bins,
                    "count": count,
                    "probability": float(probabilities[inside].mean()),
                    "good": float(labels[inside].mean()),
                }
            )
    return table


def calibration_error(probabilities: Floats, labels: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015): |share of good - mean probability|, weighted by bins' counts."""
    table = reliability(probabilities, labels, bins)
    return sum(row["count"] * abs(row["good"] - row["probability"]) for row in table) / max(1, len(labels))
