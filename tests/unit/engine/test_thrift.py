"""Thrift: of the ways to wait, the one that the meter says takes the fewest joules; texts stay the same."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity
from bloomery.core.run import NoMeter
from bloomery.engine import LanguageModel
from bloomery.engine.engine import EngineConfig
from bloomery.engine.opening import opened
from bloomery.engine.thrift import Way, _ways, thriftiest
from bloomery.models.native.library import SPIN_NANOSECONDS, library
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.paged import PagedMemory

needs_native = pytest.mark.skipif(library().calls is None, reason="no native code was built")


class Watts:
    """A meter: so many watts while a decoder makes steps in each way."""

    def __init__(self, watts: dict[tuple[int, int], float]) -> None:
        self.watts, self.way = watts, (0, 0)
        self.joules, self.at = 0.0, time.perf_counter()

    def read(self) -> Quantity:
        now = time.perf_counter()
        self.joules += (now - self.at) * self.watts.get(self.way, 0.0)
        self.at = now
        return Quantity.exact(self.joules, "counter")

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        return None


@pytest.fixture
def native(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> NativeDecoder:
    monkeypatch.setattr("bloomery.engine.thrift._SECONDS", 0.01)
    return NativeDecoder(tiny.decoder, threads=2)


def listened(native: NativeDecoder, meter: Watts, monkeypatch: pytest.MonkeyPatch) -> Watts:
    """The meter, which sees in what way steps are made."""
    step = native.step

    def seen(*args: Any, way: tuple[int, int], **named: Any) -> Any:
        meter.read()
        meter.way = way
        return step(*args, way=way, **named)

    monkeypatch.setattr(native, "step", seen)
    return meter


def test_ways_are_powers_of_two_and_all_of_them() -> None:
    assert _ways(1) == [(1, SPIN_NANOSECONDS)]
    both = lambda *counts: [(count, spin) for count in counts for spin in (SPIN_NANOSECONDS, 0)]  # noqa: E731
    assert _ways(2) == [(1, SPIN_NANOSECONDS), *both(2)]
    assert _ways(6) == [(1, SPIN_NANOSECONDS), *both(2, 4, 6)]
    assert str(Way(2, 0, 0.0031, 0.005)) == "2 threads asleep 3.1 mJ a token at 200/s"


@needs_native
@pytest.mark.parametrize("best", [(1, SPIN_NANOSECONDS), (2, SPIN_NANOSECONDS), (2, 0)])
def test_the_fewest_joules_are_taken(
    tiny: LanguageModel, native: NativeDecoder, monkeypatch: pytest.MonkeyPatch, best: tuple[int, int]
) -> None:
    """A hundred times the watts outweigh whatever speed threads bring."""
    meter = listened(native, Watts({way: 1.0 if way == best else 100.0 for way in _ways(2)}), monkeypatch)
    way, said = thriftiest(native, PagedMemory(tiny.config, 64), meter)
    assert way == best and said.startswith("for the fewest joules (counter) ") and " mJ a token" in said


@needs_native
def test_without_joules_nothing_is_chosen(
    tiny: LanguageModel, native: NativeDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for meter in (NoMeter(), listened(native, Watts({}), monkeypatch)):
        way, said = thriftiest(native, PagedMemory(tiny.config, 64), meter)
        assert way is None and said.endswith("as for speed")


@needs_native
def test_an_engine_that_prefers_energy_writes_the_same(tiny: LanguageModel, native: NativeDecoder) -> None:
    texts, model = [], LanguageModel(tiny.decoder, tiny.tokenizer, name="thrift")
    for prefer in ("speed", "energy", "speed"):
        model.set_engine(EngineConfig(native="on", cache_tokens=256, prefer=prefer))
        texts.append(model.generate("iron", max_new_tokens=12, temperature=0.0, ignore_eos=True).token_ids)
        assert ("joules" in model.engine.stats().decode_path) == (prefer == "energy")
    assert texts[0] == texts[1] == texts[2]


def test_what_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown prefer 'joules'"):
        EngineConfig(prefer="joules")


@needs_native
def test_two_engines_of_one_decoder_keep_their_ways(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.engine.opening.thriftiest", lambda *_: ((1, 0), "one thread"))
    config = EngineConfig(native="on", cache_tokens=64)
    thrifty, _, said = opened(tiny.decoder, replace(config, prefer="energy"), NoMeter())
    fast, _, _ = opened(tiny.decoder, config, NoMeter())
    assert thrifty.native is fast.native and thrifty.way == (1, 0) and fast.way is None
    assert said.endswith("; one thread")
