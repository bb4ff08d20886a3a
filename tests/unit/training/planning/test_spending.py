"""Steps for seconds, seconds for watt-hours and money, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace

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
    # 100 steps: validations at steps 25, 50, 75 of 2 batches each, then the whole split; a checkpoint to go back to
    # every 20 steps, each within 30 s of the one before.
    assert validation_batches(100) == 2
    assert PACE.seconds(100) == pytest.approx(50 + 3 * 32 * 0.01 + 100 * 0.01 + 5 * 0.2)


def test_the_parts_of_a_run():
    slow = replace(PACE, checkpoint_every=4.0, start=1.5, compiling=7.0, writing=0.1, trial=lambda steps: 0.01 * steps)
    parts = slow.parts(110)
    assert (parts.steps, parts.compiling, parts.writing) == (55.0, 7.0, 0.1)
    assert parts.start == pytest.approx(1.5 + 1.1)
    # Every 20 steps one, which are 10 s: two more in each of these; and one at the end.
    assert parts.checkpoints == pytest.approx((5 + 11 + 1) * 0.2)
    assert parts.total == slow.seconds(110)
    # Asked for every 30 steps: at 30, 60 (which is one to go back to anyway), 90.
    assert replace(PACE, checkpoint_every_steps=30).parts(100).checkpoints == pytest.approx((5 + 3 - 1) * 0.2)
    assert replace(PACE, whole_validations=True).parts(100).evaluation == pytest.approx(4 * 100 * 0.01)
    assert replace(PACE, rows_share=0.75).parts(100).steps == pytest.approx(37.5)
    cheaper = replace(PACE, rows_share=0.75, short_saving=0.1)
    assert cheaper.parts(100).steps == pytest.approx(33.75)
    assert cheaper.steps_within(60.0) > replace(PACE, rows_share=0.75).steps_within(60.0)


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
        (Budget(watt_hours=1), Quantity.exact(0.0, "counter"), "power"),
        (Budget(money=1), WATTS, "price"),
    ],
)
def test_what_cannot_be_planned(budget: Budget, watts: Quantity, said: str):
    with pytest.raises(ConfigError, match=said):
        seconds_of(budget, watts, EnergyConfig())


def test_money_without_a_meter():
    """Hours can be paid for; a price of electricity says nothing where nobody knows how much there is."""
    hours = EnergyConfig(price_per_hour=2.0)
    assert seconds_of(Budget(money=1), Quantity.unknown(), hours) == pytest.approx(1800)
    with pytest.raises(ConfigError, match="power of this machine is unknown"):
        seconds_of(Budget(money=1), Quantity.unknown(), replace(hours, price_per_kwh=0.3))


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
