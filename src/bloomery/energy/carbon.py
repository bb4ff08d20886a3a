"""Grams of CO2 equivalent per kilowatt-hour: a bundled, dated, cited table by country, or the user's own figure.

The table is a yearly average of a whole country (location-based, Scope 2); it does not know the hour, a contract for
green power, or the making of the machine. Without a country the world's average is taken, with bounds as wide as
the table, and called an estimate.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from bloomery.core.errors import ConfigError, nearest
from bloomery.core.quantity import Quantity

YEAR = 2023
SOURCE = f"Our World in Data / Ember, {YEAR}"
WORLD = "WORLD"
# How far a year's average may be from the hour in which the work was done.
_WITHIN_A_COUNTRY = 0.25


@dataclass(frozen=True, kw_only=True)
class EnergyConfig:
    """What joules mean where the machine stands."""

    country: str = ""
    """Two letters (ISO 3166-1), such as FR; empty takes the world's average."""
    grams_per_kwh: float | None = None
    """Your own figure in g CO2e per kWh; goes before the country's."""
    price_per_kwh: float | None = None
    """Price of a kilowatt-hour; without it the cost is unknown."""
    price_per_hour: float | None = None
    """Price of an hour of a rented machine, for plans with a budget of money; None: it is your own."""
    currency: str = "EUR"
    """Of the prices."""
    pue: float = 1.0
    """Power usage effectiveness: what cooling and supply add; 1 for a machine at home."""

    def __post_init__(self) -> None:
        if self.country and self.grams_per_kwh is None:
            intensity_table_entry(self.country)
        if not 1.0 <= self.pue <= 3.0:
            raise ConfigError(f'"energy.pue" should be from 1 to 3, not {self.pue:g}')
        for name in ("grams_per_kwh", "price_per_kwh", "price_per_hour"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1e6:
                raise ConfigError(f'"energy.{name}" should be 0 or more, not {value:g}')


@lru_cache(maxsize=1)
def intensity_table() -> dict[str, tuple[str, float]]:
    """Country code to (name, grams per kWh)."""
    text = resources.files("bloomery.energy").joinpath("carbon_intensity.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {row["code"]: (row["country"], float(row["grams_per_kwh"])) for row in csv.DictReader(lines)}


def intensity_table_entry(country: str) -> tuple[str, float]:
    """(name, grams per kWh) of a code; ConfigError with the nearest known one."""
    table = intensity_table()
    entry = table.get(country.upper())
    if entry is None:
        names = {name.casefold(): code for code, (name, _) in table.items()}
        match = difflib.get_close_matches(country.casefold(), names, n=1, cutoff=0.8)
        guess = f'did you mean "{names[match[0]]}"?' if match else nearest(country.upper(), table)
        hint = guess + ", or give energy.grams_per_kwh"
        raise ConfigError(f"no carbon intensity for country {country!r}", hint=hint)
    return entry


def intensity(config: EnergyConfig) -> tuple[Quantity, str]:
    """Grams per kWh with bounds, and where the figure comes from."""
    if config.grams_per_kwh is not None:
        return Quantity.exact(config.grams_per_kwh, "user"), "given by the user"
    name, grams = intensity_table_entry(config.country or WORLD)
    if config.country and config.country.upper() != WORLD:
        low, high = grams * (1 - _WITHIN_A_COUNTRY), grams * (1 + _WITHIN_A_COUNTRY)
        return Quantity(low=low, central=grams, high=high, method="estimated"), f"{name}, {SOURCE}"
    values = [value for _, value in intensity_table().values()]
    quantity = Quantity(low=min(values), central=grams, high=max(values), method="estimated")
    return quantity, f"no country given: world average, {SOURCE}"
