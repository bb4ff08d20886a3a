"""Interval: a number with what it may as well be, and how that was found. This module does not know methods."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bloomery.core.errors import DataError

Real = NDArray[np.float64]
LEVEL = 0.95
"""Confidence of intervals where nothing else is said."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """`low` and `high` bound `value` with `level` confidence."""

    value: float
    low: float
    high: float
    n: int
    """Items that it comes from."""
    method: str
    """How it was found, in words."""
    level: float = LEVEL
    clusters: int | None = None
    """Groups of items that depend on each other; None where each stands alone."""
    standard_error: float | None = None
    """None where the method knows none."""
    caution: str = ""
    """Why it may cover less often than it says (experiments/intervals.py counts it); empty where it holds."""

    def text(self, digits: int = 3) -> str:
        """`0.812 (0.771 to 0.847)`."""
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def numbers(values: ArrayLike, *, least: int = 1, what: str = "values") -> Real:
    """One axis of finite float64. DataError for fewer than `least`, and for what is no number."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{what} should be numbers") from None
    if found.ndim != 1 or len(found) < least:
        raise DataError(f"{what}: {least:,} or more in one row are needed, these have the shape {found.shape}")
    if not np.isfinite(found).all():
        raise DataError(f"{what} hold a number that is not finite", hint="an answer that failed is worth 0, not nan")
    return found


def cluster_codes(clusters: Sequence[Hashable] | None, n: int) -> NDArray[np.int64] | None:
    """(n,) numbers from 0 in order of appearance; None where there are no clusters, or each item is its own."""
    if clusters is None or len(clusters) == 0:
        return None
    if len(clusters) != n:
        raise DataError(f"{len(clusters):,} clusters are given for {n:,} items")
    places: dict[Hashable, int] = {}
    codes = np.array([places.setdefault(one, len(places)) for one in clusters], np.int64)
    return None if len(places) == n else codes


def check_level(level: float, what: str = "level") -> float:
    """The value, or a DataError if it does not lie between 0 and 1."""
    if not 0 < level < 1:
        raise DataError(f"{what} should lie between 0 and 1, not be {level}")
    return level
