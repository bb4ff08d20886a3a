"""Curves: a power law is found again with its end, and the standing is the sum of the last losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from bloomery.training.sweep.curve import Curve, extrapolated

SHARES = np.arange(1, 51) / 50


def _law(x, floor, height, exponent):
    return floor + height * x**-exponent


def _curve(floor=2.0, height=0.3, exponent=0.5, noise=0.0, seed=0) -> Curve:
    noisy = _law(SHARES, floor, height, exponent) + noise * np.random.default_rng(seed).standard_normal(50)
    return Curve(SHARES, noisy)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_a_power_law_is_carried_on(share):
    mean, spread = extrapolated(_curve().until(share))
    assert mean == pytest.approx(2.3, abs=2e-3) and spread < 0.01


def test_as_scipy_fits_it():
    """With noise the mean is within its spread of what non-linear least squares of scipy says, on half the curve."""
    part = _curve(noise=0.01).until(0.5)
    kept = part.shares > 0.05
    best, _ = curve_fit(_law, part.shares[kept], part.losses[kept], p0=(1.5, 0.5, 0.3), bounds=(0, (5, 5, 1.5)))
    mean, spread = extrapolated(part)
    assert abs(mean - _law(1.0, *best)) < 2 * spread < 0.1


def test_the_spread_is_honest():
    """Of a hundred noisy curves, seen to a third, the true end is within two spreads in nine of ten or more."""
    inside = 0
    for seed in range(100):
        mean, spread = extrapolated(_curve(noise=0.02, seed=seed).until(1 / 3))
        inside += abs(mean - 2.3) < 2 * spread
    assert inside >= 90


def test_too_few_points_say_nothing():
    mean, spread = extrapolated(_curve().until(0.06))
    assert math.isnan(mean) and spread == math.inf


def test_standing():
    curve = Curve.of([(0.2, 4.0), (0.1, 9.0), (0.4, 2.0), (0.3, 3.0)])
    assert curve.share == 0.4 and curve.standing() == pytest.approx((3.0 + 2.0) / 2)
    assert Curve.of([(0.1, 5.0), (0.4, 2.0)]).standing() == 2.0
