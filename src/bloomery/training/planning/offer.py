"""Offers: what each shape would be with a budget, which is the best of them, and which stand beside it in a plan.

This module does not know how an offer's time was found (`planner`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.core.quantity import Quantity
from bloomery.models import ModelConfig
from bloomery.training.planning.law import ScalingLaw
from bloomery.training.planning.plan import Alternative
from bloomery.training.planning.shapes import matrix_parameters, total_parameters
from bloomery.training.planning.spending import Pace

_SAME = 1.01  # for a number of steps more parameters always help a little: the smallest within 1% of the best is taken


@dataclass(frozen=True)
class Offer:
    """What one shape would be with this budget."""

    config: ModelConfig
    micro_rows: int
    pace: Pace
    steps: int
    seen: float
    """Bytes of text read."""
    expected: float
    """Bits per byte."""

    @property
    def seconds(self) -> float:
        return self.pace.seconds(self.steps)

    def predicted(self, law: ScalingLaw, unique_bytes: float) -> Quantity:
        """Bits per byte, with their interval."""
        return law.predict(matrix_parameters(self.config), self.seen, unique_bytes)


def best_of(offers: Sequence[Offer], kind: str) -> Offer:
    """For a kind of budget; there is at least one offer."""
    if kind == "bits_per_byte":
        return min(offers, key=lambda offer: offer.seconds)
    best = min(offers, key=lambda offer: offer.expected)
    if kind == "steps":
        return next(offer for offer in offers if offer.expected <= _SAME * best.expected)
    return best


def alternatives(
    chosen: Offer, offers: Sequence[Offer], law: ScalingLaw, unique_bytes: float, *, best_for: str = ""
) -> tuple[Alternative, ...]:
    """About half and twice as many parameters; with `best_for`, a kind of budget, what is best for that too, where the
    user fixed the shape."""
    size = matrix_parameters(chosen.config)
    others = [other for other in offers if other.config != chosen.config]
    named: dict[str, Offer] = {}
    for name, wanted, side in (("half", size / 2, -1), ("double", size * 2, 1)):
        there = [o for o in others if side * (matrix_parameters(o.config) - size) > 0]
        if there:
            named[name] = min(there, key=lambda o: abs(math.log(matrix_parameters(o.config) / wanted)))
    if best_for and others:
        best = best_of(others, best_for)
        if best not in named.values():
            named["best"] = best
    return tuple(
        Alternative(
            name=name,
            num_hidden_layers=other.config.num_hidden_layers,
            hidden_size=other.config.hidden_size,
            parameters=total_parameters(other.config),
            steps=other.steps,
            seconds=other.seconds,
            predicted_bits_per_byte=other.predicted(law, unique_bytes),
        )
        for name, other in named.items()
    )
