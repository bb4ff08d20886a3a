"""Kappa: how far a judge agrees with people beyond chance, with an interval.

Cohen's kappa (Educational and Psychological Measurement 20, 1960), weighted (Psychological Bulletin 70, 1968). The
value and the bootstrap are those of the annotators' agreement; the interval in closed form is by Fleiss, Cohen and
Everitt's large-sample variance (Psychological Bulletin 72, 1969), on Fisher's scale, so that it stays below 1 and leans
as it should. Fleiss' kappa and Krippendorff's alpha of several annotators come from there too. This module does not
know judges.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from bloomery.core.errors import DataError
from bloomery.corpus.annotation.agreement import Weights, cohen_kappa
from bloomery.evaluate.statistics.interval import LEVEL, Real, check_level

Way = Literal["analytic", "plain", "bootstrap"]


@dataclass(frozen=True, kw_only=True)
class Kappa:
    """`value` None: everything is one category, and chance explains all. `low` and `high` are None where `value` is,
    and where too few resamples define it."""

    value: float | None
    low: float | None
    high: float | None
    same: float
    """Share of items on which both say the same."""
    n: int
    method: str
    weights: Weights = "none"
    level: float = LEVEL
    standard_error: float | None = None

    def text(self, digits: int = 2) -> str:
        """`0.71 (0.58 to 0.81)`, or why there is none."""
        if self.value is None:
            return "not defined: all answers are the same"
        bounds = "" if self.low is None or self.high is None else f" ({self.low:.{digits}f} to {self.high:.{digits}f})"
        return f"{self.value:.{digits}f}{bounds}"

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def kappa(
    one: Sequence[Hashable],
    other: Sequence[Hashable],
    *,
    weights: Weights = "none",
    order: Sequence[Hashable] = (),
    way: Way = "analytic",
    level: float = LEVEL,
    resamples: int = 2000,
    seed: int = 0,
) -> Kappa:
    """Of two who say something of each item, in the same order. With weights `order` names all values that may occur.

    `way` "analytic" is on Fisher's scale, "plain" the same variance without it, "bootstrap" percentiles over items.
    """
    check_level(level)
    if len(one) != len(other) or not one:
        raise DataError(f"kappa is of two who judge the same items, not of {len(one):,} and {len(other):,}")
    boot = way == "bootstrap"
    found = cohen_kappa(
        one, other, weights=weights, order=order, resamples=resamples if boot else 0, seed=seed, level=level
    )
    low, high, error = found.low, found.high, None
    if found.value is not None and not boot:
        error = standard_error(_shares(one, other, order), weights) / math.sqrt(len(one))
        low, high = _ends(found.value, error, level, fisher=way == "analytic")
    names = {"analytic": "Fleiss, Cohen and Everitt on Fisher's scale", "plain": "Fleiss, Cohen and Everitt"}
    return Kappa(
        value=found.value,
        low=low,
        high=high,
        same=sum(a == b for a, b in zip(one, other, strict=True)) / len(one),
        n=len(one),
        method=names.get(way, "bootstrap, percentile"),
        weights=weights,
        level=level,
        standard_error=error,
    )


def _ends(value: float, error: float, level: float, *, fisher: bool) -> tuple[float, float]:
    z = float(special.ndtri((1 + level) / 2))
    if not fisher:
        return max(-1.0, value - z * error), min(1.0, value + z * error)
    if abs(value) >= 1 - 1e-12:
        return value, value
    middle, half = math.atanh(value), z * error / (1 - value * value)
    return math.tanh(middle - half), math.tanh(middle + half)


def standard_error(shares: Real, weights: Weights = "none") -> float:
    """Of kappa from one item, so that n items divide it by sqrt(n); `shares` (V, V) add up to 1."""
    size = len(shares)
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    distance = {"none": (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    worth = 1 - distance / max(1.0, float(distance.max()))
    rows, columns = shares.sum(1), shares.sum(0)
    same, chance = float((worth * shares).sum()), float((worth * np.outer(rows, columns)).sum())
    beside = (worth @ columns)[:, None] + (rows @ worth)[None, :]
    square = float((shares * (worth * (1 - chance) - beside * (1 - same)) ** 2).sum())
    variance = (square - (same * chance - 2 * chance + same) ** 2) / (1 - chance) ** 4
    return math.sqrt(max(0.0, variance))


def _shares(one: Sequence[Hashable], other: Sequence[Hashable], order: Sequence[Hashable]) -> Real:
    """(V, V): share of items with each pair of values."""
    values = list(order) or sorted({*one, *other}, key=repr)
    places = {value: place for place, value in enumerate(values)}
    cells = [places[a] * len(values) + places[b] for a, b in zip(one, other, strict=True)]
    return np.bincount(cells, minlength=len(values) ** 2).reshape(len(values), -1) / len(cells)
