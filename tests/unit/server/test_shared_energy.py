"""SharedEnergy: what the cards use is divided among who runs, all of it and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.quantity import Quantity
from bloomery.server.shared_energy import SharedEnergy


class Counter:
    joules = 0.0

    def read(self) -> Quantity:
        return Quantity.exact(self.joules, "counter")

    def describe(self) -> dict:
        return {}

    def close(self) -> None:
        self.joules = -1.0


def test_shares_of_those_who_run_and_nothing_for_idle_time():
    meter = Counter()
    energy = SharedEnergy(meter)
    meter.joules = 100  # idle: nobody's
    energy.begin("a")
    meter.joules = 110
    energy.begin("b")
    meter.joules = 130
    assert energy.end("a").central == pytest.approx(10 + 10)
    meter.joules = 137
    assert energy.end("b").central == pytest.approx(10 + 7)
    assert not energy.end("never").known


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 10)), max_size=40))
def test_what_is_divided_is_what_was_used(steps: list[tuple[int, float]]):
    meter = Counter()
    energy = SharedEnergy(meter)
    running: set[str] = set()
    given_out = used = 0.0
    for number, joules in steps:
        meter.joules += joules
        used += joules if running else 0.0
        name = str(number)
        if name in running:
            given_out += energy.end(name).central or 0.0
            running.discard(name)
        else:
            energy.begin(name)
            running.add(name)
    given_out += sum(energy.end(name).central or 0.0 for name in sorted(running))
    assert given_out == pytest.approx(used)


def test_without_a_meter_or_across_two_it_is_unknown():
    energy = SharedEnergy(None)
    energy.begin("a")
    assert not energy.end("a").known
    first, second = Counter(), Counter()
    energy = SharedEnergy(first)
    energy.begin("a")
    energy.change(second)
    assert first.joules == -1.0
    energy.begin("b")
    second.joules = 4.0
    assert not energy.end("a").known and energy.end("b").central == 2.0
