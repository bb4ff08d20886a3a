"""Making: what it took to make an answerer, beside what each answer takes. This module does not know how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.quantity import Quantity


@dataclass(frozen=True, kw_only=True)
class Making:
    """What it took, also where the answerer had been made before and was only opened; unknown where nobody said."""

    labels: int = 0
    """Labelled samples that anything was fitted or chosen on."""
    seconds: float = 0.0
    """Wall-clock, search included."""
    energy_joules: Quantity = field(default_factory=Quantity.unknown)
    labels_cost: Quantity = field(default_factory=Quantity.unknown)
    """Money for the labels, in the currency of the price that the user gave."""
    fits: int = 0
    """Models fitted on the way."""

    def to_dict(self) -> dict[str, Any]:
        told = {"labels": self.labels, "seconds": self.seconds, "fits": self.fits}
        return {**told, "energy_joules": self.energy_joules.to_dict(), "labels_cost": self.labels_cost.to_dict()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Making:
        return cls(
            labels=told["labels"],
            seconds=told["seconds"],
            fits=told["fits"],
            energy_joules=Quantity.from_dict(told["energy_joules"]),
            labels_cost=Quantity.from_dict(told["labels_cost"]),
        )
