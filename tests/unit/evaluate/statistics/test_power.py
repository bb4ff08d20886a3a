"""Power: statsmodels' for Student's t and for rates, McNemar's as printed and as simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.proportion import power_proportions_2indep

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics import power as ours


@pytest.mark.parametrize("n", [5, 20, 200, 5000])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_means_are_statsmodels(n: int, power: float):
    paired = ours.detectable_paired(n, 0.4, power=power).difference
    unpaired = ours.detectable_unpaired(n, 0.4, power=power).difference
    assert paired is not None and unpaired is not None
    # root finders of two libraries, each to about 1e-8 in power
    assert TTestPower().power(paired / 0.4, n, 0.05) == pytest.approx(power, abs=1e-6)
    assert TTestIndPower().power(unpaired / 0.4, n, 0.05) == pytest.approx(power, abs=1e-6)


@pytest.mark.parametrize("difference", [0.01, 0.05, 0.3])
def test_what_is_needed_finds_what_it_should(difference: float):
    n = ours.needed_paired(difference, 0.4)
    assert n is not None and n == math.ceil(TTestPower().solve_power(difference / 0.4, None, 0.05, 0.8) - 1e-6)
    each = ours.needed_unpaired(difference, 0.4)
    assert each is not None and each == math.ceil(TTestIndPower().solve_power(difference / 0.4, None, 0.05, 0.8) - 1e-6)


def test_rates_are_statsmodels():
    found = ours.detectable_unpaired_binary(300, 0.6).difference
    assert found is not None
    wanted = power_proportions_2indep(found, 0.6, 300, alternative="two-sided", return_results=False)
    assert wanted == pytest.approx(0.8, abs=1e-4)  # it counts the other tail too, which is below 1e-6 here
    # (1.959964 sqrt(2 * .325 * .675) + .841621 sqrt(.25 * .75 + .4 * .6))^2 / .15^2 = 151.87
    assert ours.needed_unpaired_binary(0.25, 0.40) == 152


def test_mcnemar_is_connors_formula():
    """n = (1.959964 sqrt(psi) + .841621 sqrt(psi - delta^2))^2 / delta^2 (Connor 1987)."""
    for delta, psi in ((0.1, 0.2), (0.02, 0.1), (0.06, 0.3)):
        wanted = (1.959964 * math.sqrt(psi) + 0.841621 * math.sqrt(psi - delta**2)) ** 2 / delta**2
        assert ours.needed_paired_binary(delta, psi) == math.ceil(wanted)
        found = ours.detectable_paired_binary(math.ceil(wanted), psi).difference
        assert found == pytest.approx(delta, rel=5e-3)  # n is a whole number


def test_mcnemar_power_as_simulated():
    """20,000 runs with mid-p: a share of .8 is known to .003; Connor's is normal, and off by two points at most
    here."""
    from scipy import stats

    n = ours.needed_paired_binary(0.08, 0.25)
    assert n is not None
    rng = np.random.default_rng(0)
    differ = rng.multinomial(n, [0.165, 0.085, 0.75], size=20_000)
    of = differ[:, 0] + differ[:, 1]
    p = stats.binom.cdf(differ[:, :2].min(1), of, 0.5) * 2 - stats.binom.pmf(differ[:, 0], of, 0.5)
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.02)


def test_clusters_take_items_away():
    alone, together = ours.needed_paired(0.1, 0.5), ours.needed_paired(0.1, 0.5, design_effect=3.0)
    assert alone is not None and together is not None and together == pytest.approx(3 * alone, abs=3)
    assert ours.detectable_paired(600, 0.5, design_effect=3.0).difference == pytest.approx(
        ours.detectable_paired(200, 0.5).difference
    )


def test_what_no_number_shows_and_words():
    assert ours.needed_paired(0.0, 0.5) is None and ours.needed_paired_binary(0.0, 0.2) is None
    assert ours.detectable_paired_binary(5, 0.1).difference is None
    assert "no difference would show" in ours.detectable_paired_binary(5, 0.1).text()
    said = ours.detectable_paired(200, 0.5)
    assert said.text().startswith("with n = 200 a difference of 0.100 or more") and said.to_dict()["n"] == 200
    for call in (
        lambda: ours.detectable_paired(1, 0.5),
        lambda: ours.detectable_paired(10, 0.5, power=1.0),
        lambda: ours.needed_paired_binary(0.3, 0.2),
        lambda: ours.detectable_paired_binary(10, 0.0),
        lambda: ours.detectable_paired(10, 0.5, design_effect=0.0),
    ):
        with pytest.raises(DataError):
            call()
