"""Means: a mean, and the interval that items which depend on each other leave it.

Questions about one passage rise and fall together: a hundred in twenty groups know less than a hundred alone, and an
interval that takes them for independent is too short (Miller, arXiv 2411.00640, section 2.2). The clustered standard
error is CR2 (Bell and McCaffrey, Survey Methodology 28, 2002), unbiased where Miller's, which is CR0, is too small with
few clusters; degrees of freedom are Satterthwaite's with the items' own intraclass correlation (Imbens and Kolesar,
Review of Economics and Statistics 98, 2016). With clusters of equal size that is Student's t on the clusters' means;
without clusters it is Student's t. This module does not know what the values are.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from bloomery.core.errors import DataError
from bloomery.core.wilson import wilson
from bloomery.evaluate.statistics.interval import LEVEL, Interval, Real, check_level, cluster_codes, numbers

_COCHRAN = 25.0
_RARER = 10.0
"""Effective items of the rarer kind, right or wrong, below which a clustered rate covers less than it says."""


@dataclass(frozen=True)
class Spread:
    """A mean's standard error, and the degrees of freedom of its estimate."""

    standard_error: float
    freedom: float


def mean(values: ArrayLike, *, clusters: Sequence[Hashable] | None = None, level: float = LEVEL) -> Interval:
    """Mean of the items and its interval by Student's t, clustered where clusters are given.

    DataError for fewer than two items or clusters: one of them says nothing about spread.
    """
    found = numbers(values, least=2)
    codes = cluster_codes(clusters, len(found))
    spread = mean_spread(found, codes)
    half = student(spread.freedom, check_level(level)) * spread.standard_error
    value = float(found.mean())
    return Interval(
        value=value,
        low=value - half,
        high=value + half,
        n=len(found),
        method="Student's t" if codes is None else "clustered standard error (CR2), Student's t",
        level=level,
        clusters=None if codes is None else int(codes.max()) + 1,
        standard_error=spread.standard_error,
        caution=leaning(found) if codes is None else "",
    )


def leaning(units: Real) -> str:
    """Cochran's rule for intervals that take a mean for normal: 25 times the squared skewness of the values are needed
    (Sampling Techniques, 3rd edition, 1977, section 2.15). Empty where there are as many. A sample without its tail
    cannot tell that there is one."""
    off = units - units.mean()
    square = float((off**2).mean())
    if square <= 1e-24 * max(1.0, float(np.abs(units).max())) ** 2:
        return ""
    needed = _COCHRAN * (float((off**3).mean()) / square**1.5) ** 2
    if len(units) > needed:
        return ""
    return f"too short: {len(units):,} values that lean to one side, some {math.ceil(needed):,} are needed"


def rate(right: ArrayLike, *, clusters: Sequence[Hashable] | None = None, level: float = LEVEL) -> Interval:
    """A share of items that are 0 or 1, by Wilson's interval; with clusters, Wilson's at the number of independent
    items that would have the clustered standard error (Korn and Graubard, Survey Methodology 24, 1998), with Student's
    t.

    With clusters it covers what it says from some 20 of them on for rates from .2 to .8; nearer to 0 or 1, where most
    clusters say the same, 91 to 94 of 100 where it says 95, and says so in `caution`.
    """
    found = numbers(right)
    if not np.isin(found, (0.0, 1.0)).all():
        raise DataError("a rate is of items that are 0 or 1", hint="mean() takes any number")
    codes, n, hits = cluster_codes(clusters, len(found)), len(found), int(found.sum())
    if codes is None:
        low, high = wilson(hits, n, check_level(level))
        method, caution = "Wilson", ""
    else:
        low, high, caution = _clustered_wilson(found, codes, check_level(level))
        method = "Wilson at the effective number of items (CR2), Student's t"
    groups = None if codes is None else int(codes.max()) + 1
    return Interval(
        value=hits / n, low=low, high=high, n=n, method=method, level=level, clusters=groups, caution=caution
    )


def _clustered_wilson(found: Real, codes: NDArray[np.int64], level: float) -> tuple[float, float, str]:
    share, groups = float(found.mean()), int(codes.max()) + 1
    if groups < 2:
        raise DataError("one cluster says nothing about spread")
    spread = mean_spread(found, codes)
    effective = float(groups)  # where nothing varies, a cluster may be no more than one item
    if spread.standard_error > 0:
        effective = min(float(len(found)), share * (1 - share) / spread.standard_error**2)
    t = student(max(1.0, min(spread.freedom, groups - 1.0)), level)
    square = t * t / effective
    middle = (share + square / 2) / (1 + square)
    half = t * math.sqrt(share * (1 - share) / effective + square / (4 * effective)) / (1 + square)
    rarer = min(share, 1 - share) * effective
    caution = f"too short: near 0 or 1 most of {groups:,} clusters say the same" if rarer < _RARER else ""
    return max(0.0, middle - half), min(1.0, middle + half), caution


def estimate(values: ArrayLike, *, clusters: Sequence[Hashable] | None = None, level: float = LEVEL) -> Interval:
    """`rate` of values that are all 0 or 1, else `mean`: for scores of which the scorer says no more."""
    found = numbers(values)
    if np.isin(found, (0.0, 1.0)).all():
        return rate(found, clusters=clusters, level=level)
    return mean(found, clusters=clusters, level=level)


def mean_spread(values: Real, codes: NDArray[np.int64] | None) -> Spread:
    """Of the mean of `values` (n,), in the clusters that `codes` (n,) number from 0."""
    n = len(values)
    if codes is None:
        return Spread(float(values.std(ddof=1)) / math.sqrt(n), n - 1.0)
    sizes = np.bincount(codes).astype(np.float64)
    if len(sizes) < 2:
        raise DataError("one cluster says nothing about spread", hint="clusters are what was sampled: two or more")
    residuals = values - values.mean()
    sums = np.bincount(codes, residuals).astype(np.float64)
    weights = 1 / (n * np.sqrt(1 - sizes / n))
    error = math.sqrt(float(((weights * sums) ** 2).sum()))
    return Spread(error, _freedom(sizes, weights, _intraclass(residuals, sums, sizes)))


def _freedom(sizes: Real, weights: Real, correlation: float) -> float:
    """Satterthwaite's degrees of freedom: (trace M)^2 / trace M^2, with M the covariance of the clusters' scores.

    M is diagonal less u_g u_h (c + e (s_g + s_h)) with u = weights * sizes, so that sums over clusters are enough.
    """
    n, squares = sizes.sum(), float((sizes**2).sum())
    diagonal = weights**2 * ((1 - correlation) * sizes + correlation * sizes**2)
    c, e = (1 - correlation) / n - correlation * squares / n**2, correlation / n
    u = (weights * sizes) ** 2
    total, first, second = float(u.sum()), float((u * sizes).sum()), float((u * sizes**2).sum())
    own = u * (c + 2 * e * sizes)
    trace = float((diagonal - own).sum())
    pairs = c**2 * total**2 + 4 * c * e * total * first + 2 * e**2 * (total * second + first**2)
    return trace**2 / (float((diagonal**2).sum()) - 2 * float((diagonal * own).sum()) + pairs)


def _intraclass(residuals: Real, sums: Real, sizes: Real) -> float:
    """Correlation of two items of one cluster, from the pairs within clusters; from 0 to 1."""
    pairs = float((sizes * (sizes - 1)).sum())
    variance = float((residuals**2).mean())
    if not pairs or not variance:
        return 0.0
    within = (float((sums**2).sum()) - float((residuals**2).sum())) / pairs
    return min(1.0, max(0.0, within / variance))


def naive_clustered_error(values: ArrayLike, clusters: Sequence[Hashable]) -> float:
    """Miller's clustered standard error as printed (equation 4): CR0, too small with few clusters."""
    found = numbers(values, least=2)
    codes = cluster_codes(clusters, len(found))
    sums = found - found.mean() if codes is None else np.bincount(codes, found - found.mean())
    return math.sqrt(float((sums**2).sum())) / len(found)


def student(freedom: float, level: float) -> float:
    """Student's quantile of a two-sided interval."""
    return float(special.stdtrit(freedom, (1 + level) / 2))


def student_p(statistic: float, freedom: float) -> float:
    """Two-sided p-value of Student's t."""
    return float(2 * special.stdtr(freedom, -abs(statistic)))
