"""Holm: several comparisons in one report, so that their chance of any false finding stays what it says.

Holm, Scandinavian Journal of Statistics 6 (1979): uniformly better than Bonferroni, and right whatever the comparisons
have to do with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bloomery.core.errors import DataError


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values in the order given: each below alpha is a finding at the family's level alpha."""
    found = np.asarray(p_values, np.float64)
    if not ((found >= 0) & (found <= 1)).all():
        raise DataError("p-values lie from 0 to 1")
    order = np.argsort(found, kind="stable")
    raised = np.minimum(1.0, np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)))
    adjusted = np.empty_like(found)
    adjusted[order] = raised
    return tuple(float(one) for one in adjusted)
