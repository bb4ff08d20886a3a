"""What joules amount to: kilowatt-hours, grams of CO2 equivalent, money.

Software Carbon Intensity's operational part (Green Software Foundation): E x I, with the facility's overhead (PUE)
explicit. Emissions from making the machine are not included. This module does not know how joules were measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloomery.core.quantity import Quantity
from bloomery.energy.carbon import EnergyConfig, intensity

_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Footprint:
    """Energy at the machine (`joules`) and at the meter of the house (`kwh`, PUE included), carbon and cost."""

    joules: Quantity
    kwh: Quantity
    gco2e: Quantity
    cost: Quantity
    country: str
    source: str
    currency: str

    def to_dict(self) -> dict[str, Any]:
        quantities = ("joules", "kwh", "gco2e", "cost")
        plain = {"country": self.country, "source": self.source, "currency": self.currency}
        return {**{name: getattr(self, name).to_dict() for name in quantities}, **plain}


def footprint(joules: Quantity, config: EnergyConfig | None = None) -> Footprint:
    """The footprint of an energy; unknown stays unknown."""
    config = config or EnergyConfig()
    kwh = joules.scaled(config.pue / _JOULES_PER_KWH)
    grams_per_kwh, source = intensity(config)
    price = Quantity.unknown() if config.price_per_kwh is None else kwh.scaled(config.price_per_kwh)
    return Footprint(
        joules=joules,
        kwh=kwh,
        gco2e=_product(kwh, grams_per_kwh),
        cost=price,
        country=config.country.upper(),
        source=source,
        currency=config.currency,
    )


def _product(energy: Quantity, factor: Quantity) -> Quantity:
    """Both positive, so bounds multiply; the weaker method of the two is the product's."""
    if energy.low is None or energy.central is None or energy.high is None:
        return energy
    assert factor.low is not None and factor.central is not None and factor.high is not None
    weaker = (energy.scaled(0) + factor.scaled(0)).method
    return Quantity(
        low=energy.low * factor.low,
        central=energy.central * factor.central,
        high=energy.high * factor.high,
        method=weaker,
    )
