"""McNemar: as statsmodels has it, as printed, and the interval's coverage, which needs no simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar as reference

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.mcnemar import binary_difference, mcnemar, score


def answers(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[int], list[int]]:
    a = [1] * both + [1] * only_a + [0] * only_b + [0] * neither
    return a, [1] * both + [0] * only_a + [1] * only_b + [0] * neither


@pytest.mark.parametrize("only_a, only_b", [(0, 0), (1, 0), (5, 5), (12, 3), (30, 31), (200, 150)])
def test_is_statsmodels(only_a: int, only_b: int):
    a, b = answers(7, only_a, only_b, 4)
    wanted = reference([[7, only_a], [only_b, 4]], exact=True).pvalue
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b, found.n) == (only_a, only_b, 11 + only_a + only_b)
    assert found.p_value == pytest.approx(wanted, abs=1e-12)


def test_as_printed():
    """Fagerland and others 2013, table 1 (airway hyper-responsiveness): 7 and 1 differ; exact p .070, mid-p .039."""
    a, b = answers(1, 7, 1, 12)
    assert mcnemar(a, b).p_value == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar(a, b, mid_p=True).p_value == pytest.approx(0.0391, abs=5e-5)


@pytest.mark.parametrize("more, less, n", [(9, 4, 100), (7, 1, 21), (30, 0, 100), (1, 3, 20)])
def test_the_interval_is_the_papers(more: int, less: int, n: int):
    """At its ends what was seen is 1.959964 standard errors away, with the shares that are most likely there: maximised
    by scipy, not by the square's root."""
    found = binary_difference(*answers(0, more, less, n - more - less))
    assert found.value == pytest.approx((more - less) / n)
    for end, sign in ((found.low, 1), (found.high, -1)):

        def unlikely(only_b: float, end: float = end) -> float:
            shares = np.array([only_b + end, only_b, 1 - 2 * only_b - end])
            counts = np.array([more, less, n - more - less])
            return -float(counts @ np.log(np.maximum(shares, 1e-300)))

        bounds = (max(0.0, -end), (1 - end) / 2)
        only_b = float(optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x)
        error = np.sqrt((2 * only_b + end - end**2) / n)
        assert (found.value - end) / error == pytest.approx(sign * 1.959964, abs=2e-3)


def test_the_interval_goes_with_the_test():
    """It leaves out 0 where McNemar's statistic without correction is beyond 1.96; known ends where none differ."""
    for more, less in ((8, 2), (9, 1), (12, 4), (15, 4), (20, 9), (20, 8)):
        found = binary_difference(*answers(10, more, less, 10))
        assert (found.low > 0) == ((more - less) / np.sqrt(more + less) > 1.959964)
    none = binary_difference([1] * 50, [1] * 50)
    z = 1.959964**2
    assert (none.low, none.high) == pytest.approx((-z / (50 + z), z / (50 + z)), abs=1e-6)
    assert binary_difference([1] * 5, [0] * 5).high == 1 and binary_difference([0] * 5, [1] * 5).low == -1


@pytest.mark.parametrize("more, less", [(0.05, 0.05), (0.1, 0.04), (0.1, 0.02), (0.2, 0.1), (0.3, 0.05), (0.2, 0.2)])
def test_the_interval_covers_what_it_says(more: float, less: float):
    """Every outcome of 50 items, weighted by the multinomial: within 1.5 points of 95%, where five items or more
    differ."""
    covered, n = 0.0, 50
    for k in range(n + 1):
        for j in range(n - k + 1):
            chance = stats.multinomial.pmf([k, j, n - k - j], n, [more, less, 1 - more - less])
            if chance > 1e-7:
                covered += chance * (abs(score(more - less, k, j, n)) <= 1.959964)
    assert covered == pytest.approx(0.95, abs=0.015)


def test_what_are_no_pairs():
    for a, b in (([1, 0], [1]), ([0.5, 1], [0, 1])):
        with pytest.raises(DataError):
            mcnemar(a, b)
