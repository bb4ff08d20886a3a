"""Steps for seconds, seconds for watt-hours and money, against sums done by hand."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity
from bloomery.energy import EnergyConfig
from bloomery.training.planning.plan import Budget
from bloomery.training.planning.spending import Pace, cost, product, seconds_of, time_interval, validation_batches

PACE = Pace(
    step=0.5,
    validation_row=0.01,
    batch_rows=16,
    validations=3,
    validation_rows=100,
    checkpoint=0.2,
    checkpoint_every=30.0,
)
WATTS = Quantity(low=10.0, central=20.0, high=40.0, method="estimated")


def test_what_a_run_takes():
    # 100 steps: validations at steps 25, 50, 75 of 2 batches each, then the whole split; a checkpoint after 30 s and
    # one at the end.
    assert validation_batches(100) == 2
    assert PACE.seconds(100) == pytest.approx(50 + 3 * 32 * 0.01 + 100 * 0.01 + 2 * 0.2)


@pytest.mark.parametrize("seconds", [3.0, 10.0, 61.0, 1000.0])
def test_steps_fill_the_time(seconds: float):
    steps = PACE.steps_within(seconds)
    # A step more, and the validation that may then fall into the run, would be too long.
    assert PACE.seconds(steps) <= seconds < PACE.seconds(steps + 1) + 3 * 8 * 16 * 0.01 + 0.2


def test_validations_leave_half_of_the_time():
    slow = Pace(**{**vars(PACE), "validation_rows": 1e6})
    assert slow.steps_within(10.0) == 10 and slow.seconds(10) > 10


def test_watt_hours_and_money():
    energy = EnergyConfig(price_per_kwh=0.5, price_per_hour=0.99)
    assert seconds_of(Budget(minutes=2), WATTS, energy) == 120
    assert seconds_of(Budget(watt_hours=1), WATTS, energy) == pytest.approx(3600 / 20)
    # 20 W are 0.02 kWh, 0.01 of money, an hour: together with the machine's price 1.00.
    assert seconds_of(Budget(money=1), WATTS, energy) == pytest.approx(3600)
    assert seconds_of(Budget(bits_per_byte=1), WATTS, energy) is None
    assert seconds_of(Budget(steps=1), WATTS, energy) is None


@pytest.mark.parametrize(
    ("budget", "watts", "said"),
    [
        (Budget(watt_hours=1), Quantity.unknown(), "power"),
        (Budget(money=1), WATTS, "price"),
    ],
)
def test_what_cannot_be_planned(budget: Budget, watts: Quantity, said: str):
    with pytest.raises(ConfigError, match=said):
        seconds_of(budget, watts, EnergyConfig())


def test_unknown_stays_unknown():
    hour = Quantity.exact(3600.0, "user")
    assert not cost(hour, WATTS, EnergyConfig()).known
    assert not cost(hour, Quantity.unknown(), EnergyConfig(price_per_kwh=0.5)).known
    assert cost(hour, Quantity.unknown(), EnergyConfig(price_per_hour=2.0)).central == 2.0
    assert not product(WATTS, Quantity.unknown()).known and not product(Quantity.unknown(), WATTS).known
    assert product(WATTS, WATTS).high == 1600.0


def test_the_interval_of_a_time():
    narrow, wide = time_interval(100.0, low=0.99, high=1.01), time_interval(100.0, low=0.5, high=2.0)
    assert (narrow.low, narrow.high) == pytest.approx((95, 110))
    assert (wide.low, wide.high) == (50, 200)
