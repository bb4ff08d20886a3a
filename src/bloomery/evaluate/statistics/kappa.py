"""Kappa: how far a judge agrees with people beyond chance, with an interval.

Cohen's kappa (Educational and Psychological Measurement 20, 1960), weighted (Psychological Bulletin 70, 1968). The
value and the bootstrap are those of the annotators' agreement. Of three intervals the usual two are too short for the
few dozen labels that a judge is held against: the bootstrap, and Fleiss, Cohen and Everitt's in closed form
(Psychological Bulletin 72, 1969); a judge that agrees on all of fifty would be known for certain. The one that is taken
where nothing is said is that of the table of answers drawn from its Dirichlet posterior, two items more in it than were
seen: one spread evenly over agreement, one over disagreement (for two values that is Jeffreys' prior).
experiments/intervals.py counts what each covers. Fleiss' kappa and Krippendorff's alpha of several annotators are in
corpus/annotation. This module does not know judges.
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

Way = Literal["posterior", "analytic", "bootstrap"]
DRAWS = 4000
METHODS = {
    "posterior": "Dirichlet posterior",
    "analytic": "Fleiss, Cohen and Everitt",
    "bootstrap": "bootstrap, percentile",
}


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
    way: Way = "posterior",
    level: float = LEVEL,
    resamples: int = DRAWS,
    seed: int = 0,
) -> Kappa:
    """Of two who say something of each item, in the same order. With weights `order` names all values that may occur.

    `way` "posterior" and "bootstrap" draw `resamples` tables, "analytic" is Fleiss, Cohen and Everitt's.
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
        counts = _counts(one, other, order)
        error = standard_error(counts / len(one), weights) / math.sqrt(len(one))
        if way == "analytic":
            half = float(special.ndtri((1 + level) / 2)) * error
            low, high = max(-1.0, found.value - half), min(1.0, found.value + half)
        else:
            low, high = _posterior(counts, weights, level, resamples, seed)
    return Kappa(
        value=found.value,
        low=low,
        high=high,
        same=sum(a == b for a, b in zip(one, other, strict=True)) / len(one),
        n=len(one),
        method=METHODS[way],
        weights=weights,
        level=level,
        standard_error=error,
    )


def _posterior(counts: Real, weights: Weights, level: float, draws: int, seed: int) -> tuple[float, float]:
    size = len(counts)
    prior = np.where(np.eye(size, dtype=bool), 1 / size, 1 / (size * max(1, size - 1)))
    rng = np.random.Generator(np.random.PCG64(seed))
    tables = rng.dirichlet((counts + prior).ravel(), draws).reshape(draws, size, size)
    far = _distance(size, weights)
    apart = (far * tables).sum((1, 2))
    chance = np.einsum("dj,jk,dk->d", tables.sum(2), far, tables.sum(1))
    low, high = np.quantile(1 - apart / chance, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _distance(size: int, weights: Weights) -> Real:
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    return {"none": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weights]


def standard_error(shares: Real, weights: Weights = "none") -> float:
    """Of kappa from one item, so that n items divide it by sqrt(n); `shares` (V, V) add up to 1."""
    distance = _distance(len(shares), weights)
    worth = 1 - distance / max(1.0, float(distance.max()))
    rows, columns = shares.sum(1), shares.sum(0)
    same, chance = float((worth * shares).sum()), float((worth * np.outer(rows, columns)).sum())
    beside = (worth @ columns)[:, None] + (rows @ worth)[None, :]
    square = float((shares * (worth * (1 - chance) - beside * (1 - same)) ** 2).sum())
    variance = (square - (same * chance - 2 * chance + same) ** 2) / (1 - chance) ** 4
    return math.sqrt(max(0.0, variance))


def _counts(one: Sequence[Hashable], other: Sequence[Hashable], order: Sequence[Hashable]) -> Real:
    """(V, V): how many items have each pair of values."""
    distinct: list[Any] = list({*one, *other})
    try:
        values = list(order) or sorted(distinct)
    except TypeError:
        values = sorted(distinct, key=repr)
    places = {value: place for place, value in enumerate(values)}
    cells = [places[a] * len(values) + places[b] for a, b in zip(one, other, strict=True)]
    return np.bincount(cells, minlength=len(values) ** 2).reshape(len(values), -1).astype(np.float64)
