"""Halving: who is let on, by the last losses, and what it costs."""

from __future__ import annotations

import math

import numpy as np

from bloomery.training.sweep.curve import Curve
from bloomery.training.sweep.halving import RUNGS, let_on

SHARES = np.arange(1, 51) / 50


def _curve(floor: float, share: float = 1.0) -> Curve:
    return Curve(SHARES, floor + 0.3 * SHARES**-0.5).until(share)


def test_the_better_ones_then_fewer():
    curves = {n: _curve(2 + n / 10) for n in range(24)}
    assert let_on(curves, 0, 24) == list(range(14))
    assert let_on(curves, 1, 24) == list(range(4)) and let_on(curves, 2, 24) == [0]
    assert let_on({n: curves[n] for n in (3, 9)}, 2, 2) == [3]


def test_only_what_has_come_that_far_and_is_a_number():
    broken = Curve(SHARES, np.full(50, math.nan))
    curves = {"near": _curve(1.0, 0.04), "broken": broken, "there": _curve(3.0, 0.1)}
    assert let_on(curves, 0, 3) == ["there"] and let_on(curves, 1, 3) == []


def test_who_went_on_with_anothers_training_is_judged_by_its_first_losses():
    """Nothing of it is known up to the rung."""
    late = Curve.of([(0.52, 3.0), (0.54, 9.0)])
    curves = {"late": late, "better": _curve(1.0), "worse": _curve(3.0), "silent": Curve.of([])}
    assert let_on(curves, 0, 4) == ["better", "late"] and let_on(curves, 0, 9) == ["better", "late", "worse"]


def test_a_rung_looks_at_nothing_that_came_after_it():
    late = Curve(SHARES, np.where(SHARES <= 0.06, 5.0, 1.0))
    assert let_on({"late": late, "early": _curve(2.0)}, 0, 2) == ["early"]


def test_what_it_costs_of_twenty_four_equal_trials():
    spent, kept, before = 0.0, 24, 0.0
    for share, part in RUNGS:
        spent += kept * (share - before)
        kept, before = round(part * 24), share
    spent += kept * (1 - before)
    assert spent / 24 < 0.3
