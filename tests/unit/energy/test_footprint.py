"""Joules to kWh, grams and money, by hand."""

from __future__ import annotations

import pytest

from bloomery.core.quantity import Quantity
from bloomery.energy import EnergyConfig, footprint


def test_one_kilowatt_hour_in_france() -> None:
    config = EnergyConfig(country="fr", price_per_kwh=0.25, currency="EUR", pue=1.5)
    made = footprint(Quantity.exact(3.6e6, "counter"), config)
    assert made.kwh.central == pytest.approx(1.5)
    assert made.gco2e.central == pytest.approx(84.0)
    assert made.cost.central == pytest.approx(0.375)
    assert (made.country, made.gco2e.method, made.kwh.method) == ("FR", "estimated", "counter")


def test_unknown_is_never_zero() -> None:
    made = footprint(Quantity.unknown(), EnergyConfig(price_per_kwh=1.0))
    assert not any(q.known for q in (made.joules, made.kwh, made.gco2e, made.cost))
    assert not footprint(Quantity.exact(1.0, "counter")).cost.known


def test_to_dict_has_the_keys_that_reports_read() -> None:
    made = footprint(Quantity.exact(1.0, "counter")).to_dict()
    assert set(made) == {"joules", "kwh", "gco2e", "cost", "country", "source", "currency"}
    assert set(made["gco2e"]) == {"low", "central", "high", "method"}
