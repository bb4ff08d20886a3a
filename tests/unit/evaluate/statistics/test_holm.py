"""Holm's p-values are statsmodels'."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.holm import holm


@pytest.mark.parametrize("seed", range(5))
def test_is_statsmodels(seed: int):
    p = np.random.default_rng(seed).random(9) ** 3
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-14)


def test_in_the_order_given():
    assert (
        holm([0.04, 0.01, 0.03]) == pytest.approx((0.06, 0.03, 0.06)) and holm([]) == () and holm([0.9, 0.8]) == (1, 1)
    )
    with pytest.raises(DataError):
        holm([1.5])
