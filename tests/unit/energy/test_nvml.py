"""NVML with fake cards."""

from __future__ import annotations

import time

import pytest

from bloomery.energy import nvml
from bloomery.energy.nvml import NvmlMeter


class FakeGpu:
    name = "Fake"

    def __init__(self, *, counter: bool = True) -> None:
        self.counter, self.millijoules, self.gone = counter, 5_000, False

    def energy_millijoules(self) -> int:
        if not self.counter or self.gone:
            raise RuntimeError("not supported")
        return self.millijoules

    def power_milliwatts(self) -> int:
        if self.gone:
            raise RuntimeError("lost")
        return 100_000


def test_counter() -> None:
    cards = [FakeGpu(), FakeGpu()]
    meter = NvmlMeter(cards)
    cards[0].millijoules += 2_000
    cards[1].millijoules += 500
    reading = meter.read()
    meter.close()
    assert (reading.low, reading.central, reading.high, reading.method) == (2.5, 2.5, 2.5, "counter")


def test_power_is_integrated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "_SAMPLE_SECONDS", 0.01)
    started = time.perf_counter()
    meter = NvmlMeter([FakeGpu(counter=False)])
    time.sleep(0.2)
    meter.close()
    spent = time.perf_counter() - started
    reading = meter.read()
    assert reading.method == "sampled"
    assert reading.low is not None and reading.central is not None and reading.high is not None
    assert 0 < reading.central <= 100 * spent
    assert reading.low < reading.central < reading.high


def test_a_lost_card_is_unknown_not_zero() -> None:
    card = FakeGpu()
    meter = NvmlMeter([card])
    card.gone = True
    assert not meter.read().known
    card.gone = False
    assert not meter.read().known
    meter.close()


def test_a_short_window_of_sampled_power_is_not_zero() -> None:
    meter = NvmlMeter([FakeGpu(counter=False)])
    before = meter.read()
    started = time.perf_counter()
    time.sleep(0.02)  # a fifth of the time between two samples
    spent = time.perf_counter() - started
    after = (meter.read() - before).central
    assert after is not None and after >= 100 * spent
    meter.close()
    closed = meter.read()
    time.sleep(0.02)
    assert meter.read() == closed


def test_a_card_that_shows_nothing_is_unknown_from_the_start() -> None:
    silent = FakeGpu()
    silent.gone = True
    meter = NvmlMeter([FakeGpu(), silent])
    assert not meter.read().known and "neither" in meter.describe()["gpu"]
    meter.close()
