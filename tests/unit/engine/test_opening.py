"""opened(): how decode steps are made is decided once, and said."""

import dataclasses
from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError, DeviceError
from bloomery.core.run import NoMeter
from bloomery.engine import LanguageModel
from bloomery.engine.engine import EngineConfig
from bloomery.engine.opening import opened
from bloomery.models import Decoder
from bloomery.models.native.library import library
from bloomery.models.packing import pack


def test_memory_is_what_was_asked_for_in_whole_blocks(tiny: LanguageModel) -> None:
    runner, scheduler, said = opened(
        tiny.decoder, EngineConfig(cache_tokens=33, block_size=16, native="off"), NoMeter()
    )
    assert runner.memory.num_positions >= 48 and scheduler.pool.num_available == 3
    assert runner.native is None and said.startswith("PyTorch")


def test_without_a_number_it_is_what_max_running_texts_need(tiny: LanguageModel) -> None:
    config = EngineConfig(native="off")
    _, scheduler, _ = opened(tiny.decoder, config, NoMeter())
    assert scheduler.pool.num_available * config.block_size >= config.scheduler.max_running * tiny.config.context_length


def test_float16_keeps_keys_where_native_steps_read_packed_weights(tiny: LanguageModel) -> None:
    def kept(decoder: Decoder, **options: Any) -> torch.dtype:
        runner, _, _ = opened(decoder, EngineConfig(cache_tokens=64, **options), NoMeter())
        return runner.memory.keys[0].dtype

    packed = {}
    for kind in ("float16", "float32"):
        packed[kind] = Decoder(tiny.config).eval().requires_grad_(False)
        pack(packed[kind], kind)
    by_native = torch.float32 if library().calls is None else torch.float16
    assert kept(packed["float16"], native="auto" if library().calls is None else "on") == by_native
    assert kept(packed["float16"], native="off") == kept(packed["float32"]) == kept(tiny.decoder) == torch.float32
    assert kept(tiny.decoder, cache_dtype="float16", native="off") == torch.float16


def test_static_and_native_steps_exclude_each_other(tiny: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="static or native"):
        opened(tiny.decoder, EngineConfig(cache_tokens=64, static_steps="plain", native="on"), NoMeter())
    runner, _, said = opened(tiny.decoder, EngineConfig(cache_tokens=64, static_steps="plain"), NoMeter())
    assert runner.static is not None and runner.native is None and "static" in said


def test_parts_that_native_steps_do_not_know_are_pytorchs(tiny: LanguageModel) -> None:
    own: dict[str, Any] = {"model_type": "bloomery", "x0_lambdas": True, "eos_token_id": ()}
    decoder = Decoder(dataclasses.replace(tiny.config, **own)).eval()
    decoder.model.add_module("canon", torch.nn.Linear(4, 4))
    if library().calls is not None:
        runner, _, said = opened(decoder, EngineConfig(cache_tokens=64), NoMeter())
        assert runner.native is None and said == "PyTorch: the native step does not know the part canon"
    with pytest.raises(DeviceError, match="no native steps"):
        opened(decoder, EngineConfig(cache_tokens=64, native="on"), NoMeter())
