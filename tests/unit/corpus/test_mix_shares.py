"""Shares: proportional fitting against scipy's optimiser, temperature against its formula, limits as in UniMax."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from bloomery.corpus.mix_shares import Asked, plan_mix, tempered


def _unlimited(count: int) -> np.ndarray:
    return np.full(count, 1e9)


def test_temperature_is_its_formula():
    sizes = np.array([900.0, 90.0, 10.0, 0.0])
    assert np.allclose(tempered(sizes, 1.0), sizes / 1000)
    powers = sizes ** (1 / 3.3)
    assert np.allclose(tempered(sizes, 3.3), powers / powers.sum())
    assert np.allclose(tempered(sizes, 1e6)[:3], 1 / 3, atol=1e-5)


def test_shares_of_sources_and_languages_at_once_are_the_nearest_that_there_are():
    """The least relative entropy under both margins: scipy's SLSQP finds the same parts."""
    sizes = np.array([50.0, 10.0, 5.0, 20.0, 10.0, 5.0])
    sources, languages = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 0, 1, 2])
    of_sources, of_languages = np.array([0.4, 0.6]), np.array([0.5, 0.3, 0.2])
    plan = plan_mix(sizes, [Asked(sources, of_sources), Asked(languages, of_languages)], limits=_unlimited(6))
    shares = plan.epochs * sizes / plan.size
    natural = sizes / sizes.sum()
    limits = [{"type": "eq", "fun": lambda x, g=g: x[sources == g].sum() - of_sources[g]} for g in range(2)]
    limits += [{"type": "eq", "fun": lambda x, g=g: x[languages == g].sum() - of_languages[g]} for g in range(2)]
    best = minimize(
        lambda x: float((x * np.log(x / natural)).sum()),
        natural,
        constraints=limits,
        bounds=[(1e-9, 1)] * 6,
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert best.success and np.allclose(shares, best.x, atol=1e-5)
    assert plan.fits and plan.size == pytest.approx(100)


def test_what_would_be_repeated_too_often_is_held_and_the_others_grow():
    """Three languages asked to be even: the smallest stands four times, the rest share what is left evenly (UniMax)."""
    sizes = np.array([900.0, 95.0, 5.0])
    even = [Asked(np.arange(3), np.full(3, 1 / 3))]
    plan = plan_mix(sizes, even, limits=np.full(3, 4.0))
    assert plan.epochs[2] == pytest.approx(4.0) and plan.epochs[1] == pytest.approx(333.333 / 95, rel=0.2)
    assert plan.size == pytest.approx(1000) and not plan.fits
    assert (plan.epochs <= 4 + 1e-9).all()


def test_nothing_asked_leaves_all_once_and_too_large_a_size_stops_at_the_limits():
    sizes = np.array([10.0, 20.0])
    assert np.allclose(plan_mix(sizes, [], limits=np.full(2, 4.0)).epochs, 1.0)
    plan = plan_mix(sizes, [], limits=np.array([2.0, 3.0]), size=1000.0)
    assert np.allclose(plan.epochs, [2.0, 3.0]) and plan.size == pytest.approx(80)


def test_a_share_of_what_is_not_there_is_not_met_and_says_so():
    sizes = np.array([10.0, 20.0])
    plan = plan_mix(sizes, [Asked(np.array([0, 1]), np.array([0.5, 0.2, 0.3]))], limits=_unlimited(2))
    assert not plan.fits and plan.size == pytest.approx(30)
