"""Prediction-powered inference: few labels of people and many of a judge make one mean with an honest interval.

What the judge says of everything is corrected by how far it is off where people have spoken; a judge that is off always
by the same leaves a short interval, and a useless one leaves that of the labels alone (Angelopoulos and others, Science
382, 2023, arXiv 2301.09633). How much the judge is trusted is tuned on the labelled items (PPI++, Angelopoulos, Duchi
and Zrnic, arXiv 2311.01453). Intervals are by Student's t with Satterthwaite's degrees of freedom: the papers' normal
ones are too short for a few dozen labels. The labelled items must be drawn at random from all. This module does not
know judges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.interval import LEVEL, Interval, check_level, numbers
from bloomery.evaluate.statistics.means import leaning, mean, student


@dataclass(frozen=True, kw_only=True)
class PredictionPowered:
    """`labels_worth` is how many labels alone would be known as well as this is."""

    estimate: Interval
    labels_only: Interval
    judge_only: float
    """Mean of the judge over everything: what one would report without labels."""
    trust: float
    """From 0 (the judge is of no use) to 1: lambda of the paper."""
    labelled: int
    unlabelled: int
    labels_worth: float

    def to_dict(self) -> dict[str, Any]:
        parts = {"estimate": self.estimate.to_dict(), "labels_only": self.labels_only.to_dict()}
        return {**vars(self), **parts}


def prediction_powered_mean(
    labels: ArrayLike,
    judged: ArrayLike,
    judged_unlabelled: ArrayLike,
    *,
    trust: float | None = None,
    level: float = LEVEL,
) -> PredictionPowered:
    """`labels` and `judged` are of the same items, three at least, `judged_unlabelled` of others, two at least.

    `trust` None: tuned (PPI++); 1 is PPI as first published, 0 the labels alone.
    """
    truth, said = numbers(labels, least=3, what="labels"), numbers(judged, least=3, what="judged")
    more = numbers(judged_unlabelled, least=2, what="judged_unlabelled")
    if len(truth) != len(said):
        raise DataError(f"{len(truth):,} labels are no pairs with {len(said):,} of the judge")
    check_level(level)
    n, many = len(truth), len(more)
    tuned = trust is None
    weight = _tuned(truth, said, more) if trust is None else float(trust)
    off = truth - weight * said
    lost = 1 + (tuned and weight > 0)  # the tuned weight is one more that the labels have to tell
    rest = float(((off - off.mean()) ** 2).sum()) / (n - lost) / n
    imputed = weight**2 * float(more.var(ddof=1)) / many
    error = math.sqrt(rest + imputed)
    freedom = (rest + imputed) ** 2 / (rest**2 / (n - lost) + imputed**2 / (many - 1)) if error else 1.0
    value = weight * float(more.mean()) + float(off.mean())
    half = student(freedom, level) * error
    alone = mean(truth, level=level)
    return PredictionPowered(
        estimate=Interval(
            value=value,
            low=value - half,
            high=value + half,
            n=n + many,
            method="PPI++, Student's t" if tuned else f"PPI with trust {weight:g}, Student's t",
            level=level,
            standard_error=error,
            caution=leaning(off),
        ),
        labels_only=alone,
        judge_only=float(np.concatenate([said, more]).mean()),
        trust=weight,
        labelled=n,
        unlabelled=many,
        labels_worth=float(truth.var(ddof=1)) / error**2 if error else float(n),
    )


def _tuned(truth: np.ndarray, said: np.ndarray, more: np.ndarray) -> float:
    """Lambda of PPI++ for a mean (its equation 8), within 0 and 1."""
    together = float(np.mean((truth - truth.mean()) * (said - said.mean())))
    variance = float(np.concatenate([said, more]).var(ddof=1))
    return min(1.0, max(0.0, together / ((1 + len(truth) / len(more)) * variance))) if variance else 0.0
