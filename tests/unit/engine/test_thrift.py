"""Thrift: of the ways to wait, the one that the meter says takes the fewest joules; texts stay the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity
from bloomery.core.run import NoMeter
from bloomery.engine import LanguageModel
from bloomery.engine.engine import EngineConfig
from bloomery.engine.opening import opened
from bloomery.engine.thrift import Way, _ways, take_thriftiest
from bloomery.models.native.library import library
from bloomery.models.native.native_decoder import SPIN_NANOSECONDS, NativeDecoder
from bloomery.models.paged import PagedMemory

needs_native = pytest.mark.skipif(library().calls is None, reason="no native code was built")


class Watts:
    """A meter: so many watts while a decoder waits in each of its ways."""

    def __init__(self, native: NativeDecoder, watts: dict[tuple[int, int], float]) -> None:
        self.native, self.watts = native, watts
        self.joules, self.at = 0.0, time.perf_counter()

    def read(self) -> Quantity:
        now = time.perf_counter()
        way = self.native.threads, self.native.spin_nanoseconds
        self.joules += (now - self.at) * self.watts.get(way, 0.0)
        self.at = now
        return Quantity.exact(self.joules, "counter")

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        return None


@pytest.fixture
def native(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> NativeDecoder:
    monkeypatch.setattr("bloomery.engine.thrift._SECONDS", 0.01)
    made = NativeDecoder(tiny.decoder)
    made.threads = made.most_threads = 2
    return made


def test_ways_are_powers_of_two_and_all_of_them() -> None:
    assert _ways(1) == [(1, SPIN_NANOSECONDS)]
    both = lambda *counts: [(count, spin) for count in counts for spin in (SPIN_NANOSECONDS, 0)]  # noqa: E731
    assert _ways(2) == [(1, SPIN_NANOSECONDS), *both(2)]
    assert _ways(6) == [(1, SPIN_NANOSECONDS), *both(2, 4, 6)]
    assert str(Way(2, 0, 0.0031, 0.005)) == "2 threads asleep 3.1 mJ a token at 200/s"


@needs_native
@pytest.mark.parametrize("best", [(1, SPIN_NANOSECONDS), (2, SPIN_NANOSECONDS), (2, 0)])
def test_the_fewest_joules_are_taken(tiny: LanguageModel, native: NativeDecoder, best: tuple[int, int]) -> None:
    """A hundred times the watts outweigh whatever speed threads bring."""
    watts = {way: 1.0 if way == best else 100.0 for way in _ways(2)}
    said = take_thriftiest(native, PagedMemory(tiny.config, 64), Watts(native, watts))
    assert (native.threads, native.spin_nanoseconds) == best and native.most_threads == 2
    assert said.startswith("for the fewest joules (counter) ") and " mJ a token" in said


@needs_native
def test_without_joules_nothing_changes(tiny: LanguageModel, native: NativeDecoder) -> None:
    memory = PagedMemory(tiny.config, 64)
    for meter in (NoMeter(), Watts(native, {})):
        assert take_thriftiest(native, memory, meter).endswith("as for speed")
        assert (native.threads, native.spin_nanoseconds) == (2, SPIN_NANOSECONDS)


@needs_native
def test_an_engine_that_prefers_energy_writes_the_same(tiny: LanguageModel, native: NativeDecoder) -> None:
    texts = []
    for prefer in ("speed", "energy", "speed"):
        tiny.set_engine(EngineConfig(native="on", cache_tokens=256, prefer=prefer))
        texts.append(tiny.generate("iron", max_new_tokens=12, temperature=0.0, ignore_eos=True).token_ids)
        assert ("joules" in tiny.engine.stats().decode_path) == (prefer == "energy")
    assert texts[0] == texts[1] == texts[2]


def test_speed_is_what_an_engine_goes_back_to(tiny: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="unknown prefer 'joules'"):
        EngineConfig(prefer="joules")
    if library().calls is not None:
        config = EngineConfig(native="on", cache_tokens=64)
        runner, _, _ = opened(tiny.decoder, config, NoMeter())
        assert runner.native is not None
        runner.native.threads, runner.native.spin_nanoseconds = 1, 0
        again, _, _ = opened(tiny.decoder, config, NoMeter())
        assert again.native is runner.native and again.native is not None
        assert again.native.threads == again.native.most_threads and again.native.spin_nanoseconds == SPIN_NANOSECONDS
