"""Agreement: how far annotators agree beyond chance, with intervals.

Cohen's kappa of two (Cohen 1960; weighted: 1968), Fleiss' kappa of many who answer everything (Fleiss 1971),
Krippendorff's alpha of any number with answers missing (Krippendorff, Content Analysis, ch. 11; Hayes and Krippendorff
2007). Where all answers are the same, chance explains everything and none of them is defined: None, never 1 or 0.
Intervals are bootstrapped over documents (percentiles: Efron and Tibshirani 1993). This module does not know questions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import DataError

Level = Literal["nominal", "ordinal", "interval"]
Weights = Literal["none", "linear", "quadratic"]
Real = NDArray[np.float64]
RESAMPLES = 1000
_MAX_VALUES = 1000


@dataclass(frozen=True)
class Agreement:
    """`value` None: not defined. `low` and `high` bound it with `level` confidence; None where fewer than nine of ten
    resamples define it. `documents` had two answers or more, `answers` are those of these documents."""

    value: float | None
    low: float | None
    high: float | None
    documents: int
    answers: int
    level: float = 0.95

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def cohen_kappa(
    one: Sequence[Hashable | None],
    other: Sequence[Hashable | None],
    *,
    weights: Weights = "none",
    order: Sequence[Hashable] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Agreement:
    """Of two annotators' answers to the same documents; where either is None the document does not count.

    With weights, disagreements count by their distance in `order`, or its square; it names all values that may occur.
    """
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    values = _values([a for pair in pairs for a in pair], order)
    places = {value: place for place, value in enumerate(values)}
    codes = np.array([[places[a], places[b]] for a, b in pairs], np.int64).reshape(-1, 2)
    size = len(values)
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    distance = {"none": (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    cells = codes[:, 0] * size + codes[:, 1]

    def kappa(counts: Real) -> float | None:
        table = np.bincount(cells, counts, size * size).reshape(size, size)
        total = table.sum()
        if not total:
            return None
        expected = np.outer(table.sum(1), table.sum(0)) / total
        chance = (distance * expected).sum()
        return None if chance <= 1e-12 * total else float(1 - (distance * table).sum() / chance)

    return _interval(kappa, len(pairs), 2 * len(pairs), resamples, seed, level)


def fleiss_kappa(ratings: Sequence[Sequence[Hashable]], *, resamples: int = RESAMPLES, seed: int = 0) -> Agreement:
    """Of documents with the same number of answers each, by whomever. DataError if they have not."""
    numbers = {len(row) for row in ratings}
    if len(numbers) > 1 or (numbers and min(numbers) < 2):
        raise DataError("Fleiss' kappa needs as many answers to each document, two or more", hint="alpha does not")
    counts = _counts(ratings, _values([one for row in ratings for one in row], ()))
    raters = next(iter(numbers), 2)
    alike = ((counts**2).sum(1) - raters) / (raters * (raters - 1))

    def kappa(weights: Real) -> float | None:
        total = weights.sum()
        if not total:
            return None
        shares = weights @ counts / (total * raters)
        chance = (shares**2).sum()
        return None if 1 - chance <= 1e-12 else float((weights @ alike / total - chance) / (1 - chance))

    return _interval(kappa, len(counts), len(counts) * raters, resamples, seed)


def krippendorff_alpha(
    ratings: Sequence[Sequence[Hashable | None]],
    *,
    level: Level = "nominal",
    order: Sequence[Hashable] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Of the answers to each document, in any order and number; None is a missing one.

    Ordinal values come in `order`, or sorted; interval ones are numbers. DataError for more than 1,000 different ones.
    """
    rows = [[one for one in row if one is not None] for row in ratings]
    rows = [row for row in rows if len(row) >= 2]
    values = _values([one for row in rows for one in row], order)
    counts = _counts(rows, values)
    each = counts.sum(1)
    metric = _ordinal_distance if level == "ordinal" else None
    fixed = None if metric else _distance(values, level)

    def alpha(weights: Real) -> float | None:
        scaled = weights / (each - 1)
        pairs = counts.T @ (counts * scaled[:, None])
        pairs[np.diag_indices(len(values))] -= scaled @ counts
        totals = pairs.sum(1)
        number = totals.sum()
        distance = metric(totals) if metric else fixed
        if number <= 1:
            return None
        expected = (np.outer(totals, totals) * distance).sum() / (number - 1)
        return None if expected <= 1e-12 * number else float(1 - (pairs * distance).sum() / expected)

    return _interval(alpha, len(rows), int(each.sum()), resamples, seed)


def _distance(values: Sequence[Any], level: Level) -> Real:
    """Squared differences (V, V)."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        raise DataError("answers on an interval scale are numbers", hint='level = "nominal" or "ordinal"') from None
    return np.subtract.outer(numbers, numbers) ** 2


def _ordinal_distance(totals: Real) -> Real:
    """Squared numbers of answers that lie between two values, half of those at the ends."""
    below = np.cumsum(totals) - totals / 2
    return np.subtract.outer(below, below) ** 2


def _values(found: Sequence[Any], order: Sequence[Hashable]) -> list[Any]:
    distinct = set(found)
    if order:
        if missing := distinct - set(order):
            raise DataError(f"the answer {next(iter(missing))!r:.40} is not in the order of values")
        return list(order)
    if len(distinct) > _MAX_VALUES:
        raise DataError(f"{len(distinct):,} different answers are more than {_MAX_VALUES:,}", hint="texts do not agree")
    try:
        return sorted(distinct)
    except TypeError:
        return sorted(distinct, key=repr)


def _counts(rows: Sequence[Sequence[Any]], values: Sequence[Any]) -> Real:
    """(documents, values): how many gave which."""
    places = {value: place for place, value in enumerate(values)}
    counts = np.zeros((len(rows), len(values)))
    for number, row in enumerate(rows):
        for one in row:
            counts[number, places[one]] += 1
    return counts


def _interval(
    statistic: Callable[[Real], float | None],
    documents: int,
    answers: int,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Agreement:
    """The statistic of all documents, and percentiles of it over resampled ones; it takes each document's weight."""
    if not documents:
        return Agreement(None, None, None, 0, 0, level)
    value = statistic(np.ones(documents))
    low = high = None
    if value is not None and documents > 1 and resamples:
        rng = np.random.Generator(np.random.PCG64(seed))
        drawn = (np.bincount(rng.integers(0, documents, documents), minlength=documents) for _ in range(resamples))
        found = [one for weights in drawn if (one := statistic(weights.astype(np.float64))) is not None]
        if len(found) >= 0.9 * resamples:
            low, high = (float(one) for one in np.quantile(found, [(1 - level) / 2, (1 + level) / 2]))
    return Agreement(value, low, high, documents, answers, level)
