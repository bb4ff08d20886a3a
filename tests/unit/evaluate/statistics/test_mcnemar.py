"""McNemar: as statsmodels has it, as printed, and the interval's coverage, which needs no simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.mcnemar import binary_difference, mcnemar


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


def test_the_interval_is_walds_with_an_item_more_for_each():
    a, b = answers(10, 9, 4, 77)
    found = binary_difference(a, b)
    more, less = 10 / 102, 5 / 102
    half = stats.norm.ppf(0.975) * np.sqrt((more + less - (more - less) ** 2) / 102)
    assert found.value == pytest.approx(0.05)
    assert (found.low, found.high) == pytest.approx((more - less - half, more - less + half), abs=1e-12)


@pytest.mark.parametrize("more, less", [(0.2, 0.1), (0.3, 0.05), (0.15, 0.15)])
@pytest.mark.parametrize("n", [50, 100])
def test_the_interval_covers_what_it_says(more: float, less: float, n: int):
    """Every outcome, weighted by the multinomial: within 1.5 points of 95% where a fifth of the items or more
    differ."""
    covered = 0.0
    for k in range(n + 1):
        chances = stats.multinomial.pmf([[k, j, n - k - j] for j in range(n - k + 1)], n, [more, less, 1 - more - less])
        if chances.sum() < 1e-9:
            continue
        for j, chance in enumerate(chances):
            if chance > 1e-9:
                up, down = (k + 1) / (n + 2), (j + 1) / (n + 2)
                half = 1.959964 * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
                covered += chance * (abs(up - down - (more - less)) <= half)
    assert covered == pytest.approx(0.95, abs=0.015)


def test_what_are_no_pairs():
    for a, b in (([1, 0], [1]), ([0.5, 1], [0, 1])):
        with pytest.raises(DataError):
            mcnemar(a, b)
