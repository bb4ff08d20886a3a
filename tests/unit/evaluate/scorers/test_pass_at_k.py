"""pass@k against the sum over all ways to draw k answers, and as its authors print it."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from bloomery.core.errors import DataError
from bloomery.evaluate.scorers import mean_pass_at_k, pass_at_k


@pytest.mark.parametrize("n, right", [(1, 0), (1, 1), (6, 0), (6, 2), (6, 6), (8, 3)])
def test_is_the_share_of_draws_with_a_right_one(n: int, right: int):
    for k in range(1, n + 1):
        drawn = [any(one < right for one in chosen) for chosen in combinations(range(n), k)]
        assert pass_at_k(n, right, k) == pytest.approx(np.mean(drawn), abs=1e-12)
        assert pass_at_k(n, right, k) == pytest.approx(1 - comb(n - right, k) / comb(n, k), abs=1e-12)


def test_many_tries_do_not_overflow():
    assert pass_at_k(10_000, 10, 100) == pytest.approx(1 - comb(9990, 100) / comb(10_000, 100), rel=1e-10)


def test_over_problems():
    found = mean_pass_at_k([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], 2)
    assert found.value == pytest.approx((0.5 + 1 + 0) / 3) and found.n == 3
    assert mean_pass_at_k([[1], [0], [1]], 1).method == "Wilson"
    for n, right, k in ((3, 4, 1), (3, 1, 4), (3, 1, 0)):
        with pytest.raises(DataError):
            pass_at_k(n, right, k)
