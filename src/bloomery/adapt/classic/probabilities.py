"""Probabilities: scores of several classes into probabilities, calibrated on scores that no fit has seen.

Two classes: Platt's sigmoid (or isotonic). More: one against the rest, normalised (Zadrozny and Elkan, 2002). This
module does not know where scores come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import DataError
from bloomery.corpus.calibration import Calibration

Floats = NDArray[np.float64]
Method = Literal["platt", "isotonic", "none"]


@dataclass(frozen=True)
class Probabilities:
    """A curve for each column of scores; none: the scores as log-odds (two classes) or through a softmax."""

    curves: tuple[Calibration, ...] = ()

    @classmethod
    def fit(cls, scores: Floats, labels: NDArray[np.int64], method: Method = "platt") -> Probabilities:
        """Scores (N, 1) or (N, C) that were held out of the fit, labels (N,)."""
        if method == "none":
            return cls()
        positive = [1] if scores.shape[1] == 1 else list(range(scores.shape[1]))
        return cls(tuple(Calibration.fit(scores[:, n], labels == label, method) for n, label in enumerate(positive)))

    def __call__(self, scores: Floats) -> Floats:
        """(N, C) probabilities; rows sum to 1."""
        if not self.curves and scores.shape[1] > 1:
            shifted = np.exp(scores - scores.max(1, keepdims=True))
            return shifted / shifted.sum(1, keepdims=True)
        if scores.shape[1] == 1:
            second = self.curves[0](scores[:, 0]) if self.curves else _sigmoid(scores[:, 0])
            return np.stack([1 - second, second], axis=1)
        each = np.stack([curve(scores[:, n]) for n, curve in enumerate(self.curves)], axis=1)
        total = each.sum(1, keepdims=True)
        even = np.full_like(each, 1 / each.shape[1])
        return np.where(total > 0, each / np.where(total > 0, total, 1.0), even)

    def to_list(self) -> list[dict[str, Any]]:
        return [curve.to_dict() for curve in self.curves]

    @classmethod
    def from_list(cls, told: list[Mapping[str, Any]]) -> Probabilities:
        """DataError for what is none."""
        try:
            return cls(
                tuple(
                    Calibration(one["method"], tuple(map(float, one["x"])), tuple(map(float, one["y"]))) for one in told
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"these are no calibration curves: {error}") from error


def _sigmoid(scores: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
