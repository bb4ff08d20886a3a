"""pass@k: the chance that of k answers to a problem at least one is right, from n that were tried.

Chen and others, arXiv 2107.03374, equation 1: 1 - C(n - c, k) / C(n, k) for c right ones of n, unbiased where taking
the first k of n is noise. Problems are what is sampled: the interval is over them. This module does not know code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics import Interval, estimate


def pass_at_k(n: int, right: int, k: int) -> float:
    """Of one problem. DataError where k is more than were tried."""
    if not 0 <= right <= n or not 1 <= k <= n:
        raise DataError(f"pass@{k} of {right} right in {n} answers cannot be told", hint=f"ask {k} times or more")
    if n - right < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - right + 1, n + 1)))


def mean_pass_at_k(rights: Sequence[Sequence[float]], k: int, *, level: float = 0.95) -> Interval:
    """Over problems, of each of which `rights` has the answers' values; from 1 on one is right."""
    return estimate([pass_at_k(len(one), sum(value >= 1 for value in one), k) for one in rights], level=level)
