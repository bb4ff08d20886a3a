"""Offers: the best for each kind of budget, and its neighbours by size."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bloomery.training.planning.law import DEFAULT_LAW
from bloomery.training.planning.offer import Offer, alternatives, best_of
from bloomery.training.planning.shapes import matrix_parameters, shaped, total_parameters
from bloomery.training.planning.spending import Pace

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]


def offer(layers: int, hidden: int, *, expected: float, step: float = 0.5) -> Offer:
    pace = Pace(
        step=step,
        validation_row=0.0,
        batch_rows=4,
        validations=0,
        validation_rows=0,
        checkpoint=0.0,
        checkpoint_every=30.0,
    )
    return Offer(shaped(BASE, layers, hidden), 4, pace, 100, 1e6, expected)


OFFERS = [
    offer(2, 128, expected=1.52, step=0.1),
    offer(3, 192, expected=1.505),
    offer(4, 256, expected=1.5),
    offer(6, 384, expected=1.6),
]


def test_the_best_depends_on_the_budget():
    assert best_of(OFFERS, "minutes") is OFFERS[2]
    assert best_of(OFFERS, "steps") is OFFERS[1]  # the smallest within 1% of the best
    assert best_of(OFFERS, "bits_per_byte") is OFFERS[0] and OFFERS[0].seconds == pytest.approx(10.0)


def test_half_and_double_and_what_would_be_better():
    chosen = OFFERS[1]
    half, double = alternatives(chosen, OFFERS, DEFAULT_LAW, 1e6)
    assert (half.name, half.hidden_size) == ("half", 128) and (double.name, double.hidden_size) == ("double", 256)
    assert half.parameters == total_parameters(OFFERS[0].config) and half.seconds == pytest.approx(10.0)
    wanted = DEFAULT_LAW.predict(matrix_parameters(OFFERS[0].config), 1e6, 1e6)
    assert half.predicted_bits_per_byte == wanted
    # Of a shape that the user fixed: the best of the others, where it is no neighbour already.
    names = [other.name for other in alternatives(OFFERS[0], OFFERS, DEFAULT_LAW, 1e6, best_for="minutes")]
    assert names == ["double", "best"]
    assert alternatives(chosen, [chosen], DEFAULT_LAW, 1e6, best_for="minutes") == ()
