"""Ranking: how well scores tell rare ones from the rest, with intervals over whole clusters.

Average precision, area under the ROC curve, F1, and card precision at k (Le Borgne et al., Reproducible Machine
Learning for Credit Card Fraud Detection, 2022, chapter 4). Intervals resample clusters (cards), not rows: rows of one
card are not independent. This module does not know where scores come from.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bloomery.core.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """A figure with its 95% interval; `unit` says what was resampled."""

    value: float
    low: float
    high: float
    n: int
    unit: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The mean of precision over recall's steps, rows of one score together: scikit-learn's average_precision_score.
    nan without a positive row."""
    found = _Sorted(labels, scores)
    return found.average_precision(found.weights(weights))


def precision_above(
    labels: ArrayLike,
    ours: Sequence[ArrayLike],
    theirs: Sequence[ArrayLike],
    *,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Ranked:
    """How much the average precision of some scores is above that of others, each (N,); of several (seeds) the mean.
    Both are measured on the same resamples of clusters (rows without them)."""
    truth = np.asarray(labels, dtype=bool)
    parts = [[_Sorted(truth, one) for one in part] for part in (ours, theirs)]
    if not all(parts):
        raise DataError("there is nothing to compare")
    codes = np.arange(len(truth))
    if clusters is not None:
        _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    number = int(codes.max()) + 1
    rng = np.random.default_rng(seed)

    def above(weights: Floats) -> float:
        mine, other = (np.mean([one.average_precision(weights[one.order]) for one in part]) for part in parts)
        return float(mine - other)

    drawn = [
        above(np.bincount(rng.integers(0, number, number), minlength=number).astype(float)[codes])
        for _ in range(resamples)
    ]
    known = np.array([one for one in drawn if not np.isnan(one)])
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    unit = "rows" if clusters is None else "clusters"
    return Ranked(above(np.ones(len(truth))), float(low), float(high), number, unit)


def roc_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The chance that a positive row is above a negative one, ties counted half. nan without rows of both kinds."""
    found = _Sorted(labels, scores)
    return found.roc_auc(found.weights(weights))


def f1(labels: ArrayLike, said: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Of the positive class; `said` (N,) are decisions. 0 where nothing positive is, or is said."""
    truth, said = np.asarray(labels, dtype=bool), np.asarray(said, dtype=bool)
    weight = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=float)
    hits, wrong = float(weight[truth & said].sum()), float(weight[truth != said].sum())
    return 2 * hits / (2 * hits + wrong) if hits else 0.0


class _Sorted:
    """Rows from the highest score down; sorted once for many weightings."""

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        truth, value = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=float)
        if truth.shape != value.shape or truth.ndim != 1 or not len(truth):
            raise DataError("labels and scores are as many, and some")
        if not np.isfinite(value).all():
            raise DataError("a score is not a finite number")
        self.order = np.argsort(-value, kind="stable")
        self._truth = truth[self.order]
        ordered = value[self.order]
        self._last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))

    def weights(self, weights: ArrayLike | None) -> Floats:
        return np.ones(len(self.order)) if weights is None else np.asarray(weights, dtype=float)[self.order]

    def _steps(self, weights: Floats) -> tuple[Floats, Floats]:
        """Cumulative weight of positives, and of negatives, after each distinct score."""
        hits = np.cumsum(weights * self._truth)[self._last]
        return hits, np.cumsum(weights * ~self._truth)[self._last]

    def average_precision(self, weights: Floats) -> float:
        hits, wrong = self._steps(weights)
        if hits[-1] <= 0:
            return float("nan")
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.nan_to_num(hits / (hits + wrong))
        return float((np.diff(hits, prepend=0.0) * precision).sum() / hits[-1])

    def roc_auc(self, weights: Floats) -> float:
        hits, wrong = self._steps(weights)
        if hits[-1] <= 0 or wrong[-1] <= 0:
            return float("nan")
        heights = hits - np.diff(hits, prepend=0.0) / 2
        return float((np.diff(wrong, prepend=0.0) * heights).sum() / (hits[-1] * wrong[-1]))


def card_precision(
    labels: ArrayLike, scores: ArrayLike, days: ArrayLike, cards: ArrayLike, *, k: int, known: Sequence[Hashable] = ()
) -> Floats:
    """(days,) the share, among the k cards with the highest score of a day, of those with a fraud on that day: what k
    inspections a day are worth.

    A card found on one day is blocked on the days after it: it is none of theirs. `known` are blocked before. A day
    with fewer than k cards is divided by k all the same, as the book does.
    """
    truth, value = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=float)
    day, card = np.asarray(days), np.asarray(cards)
    blocked = set(known)
    found = []
    for one in np.unique(day):
        best: dict[Hashable, float] = {}
        frauds: set[Hashable] = set()
        for row in np.flatnonzero(day == one):
            name = card[row].item()
            if name in blocked:
                continue
            best[name] = max(best.get(name, -np.inf), float(value[row]))
            if truth[row]:
                frauds.add(name)
        # Of equal scores the first card seen: sorted() keeps the order.
        top = sorted(best, key=lambda name: -best[name])[:k]
        hits = [name for name in top if name in frauds]
        blocked |= set(hits)
        found.append(len(hits) / k)
    return np.array(found)


def ranked(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    threshold: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Ranked]:
    """Average precision, ROC AUC and F1 (of scores from the threshold on), each with a percentile interval of so many
    resamples of clusters (rows without them)."""
    truth, value = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=float)
    found = _Sorted(truth, value)
    said = value >= threshold
    figures: dict[str, Callable[[Floats], float]] = {
        "average_precision": lambda weights: found.average_precision(weights[found.order]),
        "roc_auc": lambda weights: found.roc_auc(weights[found.order]),
        "f1": lambda weights: f1(truth, said, weights),
    }
    codes = np.arange(len(truth))
    if clusters is not None:
        _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    number = int(codes.max()) + 1
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, number, number), minlength=number).astype(float)[codes]
        for name, figure in figures.items():
            drawn[name].append(figure(weights))
    unit = "rows" if clusters is None else "clusters"
    told = {}
    for name, figure in figures.items():
        whole = figure(np.ones(len(truth)))
        known = np.array([one for one in drawn[name] if not np.isnan(one)])
        low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
        told[name] = Ranked(whole, float(low), float(high), number, unit)
    return told
