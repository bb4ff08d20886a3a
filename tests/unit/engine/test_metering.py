"""Phases: joules between two readings, shared by computing time; unknown stays unknown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from bloomery.core.quantity import Quantity
from bloomery.core.run import NoMeter
from bloomery.engine.metering import Bench, Phase


class SteadyMeter:
    """Ten watts."""

    def __init__(self) -> None:
        self.reads = 0
        self._started = time.perf_counter()

    def read(self) -> Quantity:
        self.reads += 1
        return Quantity.exact(10.0 * (time.perf_counter() - self._started), "counter")

    def describe(self) -> Mapping[str, Any]:
        return {}

    def close(self) -> None:
        return None


def test_a_phase_alone_gets_all_joules_with_two_readings():
    meter = SteadyMeter()
    phase = Phase(Bench(meter))
    for _ in range(20):
        with phase.step():
            time.sleep(0.002)
    joules = phase.energy().central
    assert joules is not None
    assert joules >= 10.0 * phase.seconds * 0.99
    assert meter.reads == 2


def test_a_step_in_the_middle_of_another_takes_no_turn_and_its_time_counts_once():
    bench = Bench(SteadyMeter())
    before = bench.busy_seconds
    with bench.step() as outer:
        time.sleep(0.01)
        with bench.step(within=outer) as inner:
            time.sleep(0.02)
    assert inner.seconds >= 0.02 and outer.seconds >= 0.01
    assert bench.busy_seconds - before == pytest.approx(outer.seconds + inner.seconds)
    assert outer.lent_seconds == inner.seconds and not bench.turns.waiting


def test_two_phases_in_turns_share_the_joules():
    bench = Bench(SteadyMeter())
    first, second = Phase(bench), Phase(bench)
    for _ in range(5):
        with first.step():
            time.sleep(0.006)
        with second.step():
            time.sleep(0.002)
    one, two = first.energy().central, second.energy().central
    assert one is not None and two is not None
    assert one / two == pytest.approx(first.seconds / second.seconds, rel=0.2)


def test_work_beside_steps_is_shared_too_and_waits_for_nobody():
    meter = SteadyMeter()
    bench = Bench(meter)
    phases, before = [Phase(bench), Phase(bench)], meter.read()
    with bench.step() as step:
        time.sleep(0.01)
        for phase in phases:
            with bench.beside() as beside:  # inside of a turn: it would wait for ever
                time.sleep(0.01)
            phase.add(beside.seconds, steps=0)
    for phase in phases:
        phase.add(step.seconds - 0.02, 0.5)
    joules = [phase.energy().central for phase in phases]
    spent = (meter.read() - before).central
    assert spent is not None and sum(one or 0.0 for one in joules) <= spent
    assert [phase.steps for phase in phases] == [1, 1]


def test_unknown_is_not_zero_and_an_empty_phase_is():
    bench = Bench(NoMeter())
    phase = Phase(bench)
    assert phase.energy().central == 0.0
    with phase.step():
        pass
    assert not phase.energy().known
