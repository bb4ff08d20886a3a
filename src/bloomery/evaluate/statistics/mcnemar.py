"""McNemar: whether two answerers that are right or wrong on the same items are right equally often.

Only the items count on which they differ: were both equally good, each would win half of those, so the p-value is the
binomial's (McNemar, Psychometrika 12, 1947; exact: Mosteller 1952). The mid-p counts the observed outcome half
(Fagerland and others, BMC Medical Research Methodology 13:91, 2013): the exact test rejects less often than it says.
The interval of the difference is Tango's (Statistics in Medicine 17, 1998): the differences that McNemar's statistic
does not reject. It holds its confidence where some five items or more differ, and is longer than it need be below that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.interval import LEVEL, Interval, Real, check_level, numbers


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """`only_a` and `only_b` are the numbers of items on which that one alone is right."""

    only_a: int
    only_b: int
    n: int
    p_value: float
    mid_p: bool

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def mcnemar(a: ArrayLike, b: ArrayLike, *, mid_p: bool = False) -> McNemar:
    """Two-sided p-value for right (1) or wrong (0) answers of A and B to the same items, in the same order."""
    right_a, right_b = binary_pair(a, b)
    only_a, only_b = int((right_a > right_b).sum()), int((right_b > right_a).sum())
    differ = only_a + only_b
    p = float(stats.binomtest(only_a, differ).pvalue) if differ else 1.0
    if mid_p and differ:
        p -= float(stats.binom.pmf(only_a, differ, 0.5))
        p = 1.0 if only_a == only_b else p
    return McNemar(only_a=only_a, only_b=only_b, n=len(right_a), p_value=p, mid_p=mid_p)


def binary_difference(a: ArrayLike, b: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Share that A has right less that of B, with Tango's score interval."""
    right_a, right_b = binary_pair(a, b)
    z = float(special.ndtri((1 + check_level(level)) / 2))
    n = len(right_a)
    more, less = int((right_a > right_b).sum()), int((right_b > right_a).sum())
    low, high = -_upper(less, more, n, z), _upper(more, less, n, z)
    return Interval(value=(more - less) / n, low=low, high=high, n=n, method="Tango's score", level=level)


def _upper(more: int, less: int, n: int, z: float) -> float:
    """The largest difference whose score is no lower than -z."""
    seen, top = (more - less) / n, 1 - 1e-12
    if seen >= top or score(top, more, less, n) >= -z:
        return 1.0
    found = optimize.root_scalar(
        lambda difference: score(difference, more, less, n) + z, bracket=(seen, top), method="brentq", xtol=1e-12
    )
    return float(found.root)


def score(difference: float, more: int, less: int, n: int) -> float:
    """Tango's statistic: how many standard errors what was seen is from `difference`, were it the true one. With that,
    the most likely share of items on which only B is right is the root of a square (his equation 8); where the
    difference is 0 it is McNemar's."""
    linear = (2 * n - more + less) * difference - more - less
    only_b = (math.sqrt(max(0.0, linear**2 + 8 * n * less * difference * (1 - difference))) - linear) / (4 * n)
    variance = n * (2 * only_b + difference * (1 - difference))
    off = more - less - n * difference
    return off / math.sqrt(variance) if variance > 0 else 0.0 if off == 0 else math.copysign(math.inf, off)


def binary_pair(a: ArrayLike, b: ArrayLike) -> tuple[Real, Real]:
    """Both as numbers that are 0 or 1, equally many. DataError otherwise."""
    one, other = numbers(a), numbers(b)
    if len(one) != len(other):
        raise DataError(f"{len(one):,} items are no pairs with {len(other):,}", hint="both answer the same items")
    if not (np.isin(one, (0.0, 1.0)).all() and np.isin(other, (0.0, 1.0)).all()):
        raise DataError("right and wrong are 1 and 0", hint="paired_difference() takes any number")
    return one, other
