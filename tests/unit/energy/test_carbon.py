"""The carbon table against Our World in Data's figures for 2023."""

from __future__ import annotations

import pytest

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError
from bloomery.energy import EnergyConfig
from bloomery.energy.carbon import intensity, intensity_table


@pytest.mark.parametrize(
    ("code", "grams"), [("FR", 56.0), ("SE", 40.7), ("US", 369.5), ("DE", 381.0), ("IN", 713.4), ("fr", 56.0)]
)
def test_published_figures(code: str, grams: float) -> None:
    quantity, source = intensity(EnergyConfig(country=code))
    assert quantity.central == grams and "2023" in source


def test_no_country_is_the_world_with_the_tables_bounds() -> None:
    quantity, source = intensity(EnergyConfig())
    values = [grams for _, grams in intensity_table().values()]
    assert (quantity.low, quantity.high) == (min(values), max(values))
    assert quantity.method == "estimated" and "world average" in source


def test_own_figure_goes_first() -> None:
    quantity, source = intensity(EnergyConfig(country="FR", grams_per_kwh=12.0))
    assert (quantity.central, quantity.method) == (12.0, "user") and "user" in source


def test_mistakes() -> None:
    with pytest.raises(ConfigError) as caught:
        EnergyConfig(country="FRA")
    assert "FR" in caught.value.hint
    for wrong in ({"pue": 0.5}, {"grams_per_kwh": -1.0}, {"price_per_kwh": float("nan")}):
        with pytest.raises(ConfigError):
            from_dict(EnergyConfig, wrong)


def test_every_row_is_a_country_with_a_possible_figure() -> None:
    table = intensity_table()
    assert len(table) > 70 and all(len(code) == 2 and code.isupper() for code in table if code != "WORLD")
    # No grid is below wind and hydropower (about 10) or above lignite (about 1,100 g/kWh, IPCC AR5 annex III).
    assert all(10 < grams < 1100 for _, grams in table.values())


@pytest.mark.parametrize(("given", "code"), [("Germany", "DE"), ("norwey", "NO"), ("FRA", "FR")])
def test_a_countrys_name_is_answered_with_its_code(given: str, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EnergyConfig(country=given)
    assert f'"{code}"' in caught.value.hint
