"""Opening: what an engine needs before its first step: memory for keys and values, a runner, a scheduler.

How a model's decode steps are made is decided here, once, and said. This module does not know requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import torch

from bloomery.core.errors import ConfigError, DeviceError
from bloomery.core.run import Meter
from bloomery.engine.blocks import BlockPool
from bloomery.engine.runner import Decoding, Runner
from bloomery.engine.scheduler import Scheduler
from bloomery.engine.static_steps import StaticSteps
from bloomery.engine.thrift import thriftiest
from bloomery.models.decoder import Decoder
from bloomery.models.native.trial import Trial, cache_dtype, trial_of
from bloomery.models.paged import PagedMemory

if TYPE_CHECKING:
    from bloomery.engine.engine import EngineConfig

_MAX_CPU_SHARE, _MAX_GPU_SHARE = 0.4, 0.5


def opened(
    decoder: Decoding, config: EngineConfig, meter: Meter, *, keeps_states: bool = False
) -> tuple[Runner, Scheduler, str]:
    """A runner, a scheduler over its memory, and how decode steps are made, in words. `meter` is read where energy is
    preferred; `keeps_states` as for a runner.

    DeviceError where the memory is not there, or native steps are asked for and cannot be; ConfigError for static
    steps of a model that has none.
    """
    if keeps_states and config.static_steps != "off":
        raise ConfigError("extra heads guess from states, which static steps do not keep", hint='static_steps="off"')
    weight, model = next(decoder.parameters()), decoder.config
    found = _native(decoder, config)
    dtype = _cache_dtype(weight.dtype, config.cache_dtype, found)
    positions, size = config.cache_tokens, config.block_size
    if positions is None:
        positions = config.scheduler.max_running * model.context_length
        positions = min(positions, _free_bytes(weight.device) // PagedMemory.bytes_per_position(model, dtype))
    blocks = max(1, -(-positions // size))
    try:
        memory = PagedMemory(model, blocks * size, dtype, weight.device)
    except RuntimeError as error:  # torch has no narrower one for memory on every device
        hint = "ask for less: EngineConfig(cache_tokens=...)"
        raise DeviceError(f"no memory for the keys and values of {positions:,} tokens", hint=hint) from error
    static = _static(decoder, config, memory)
    kept = "" if dtype == weight.dtype else f"; keys and values in {str(dtype).removeprefix('torch.')}"
    way = None
    if found.native is not None and config.prefer == "energy":
        way, told = thriftiest(found.native, memory, meter)
        kept += f"; {told}"
    how = {"native": found.native, "native_prompts": found.prompts, "static": static}
    runner = Runner(decoder, memory, size, **how, keeps_states=keeps_states, way=way)
    return runner, Scheduler(BlockPool(blocks, size), config.scheduler), found.text + kept


def _cache_dtype(weights: torch.dtype, asked: str, found: Trial) -> torch.dtype:
    """PyTorch would turn float16 into what its weights are in at each step; native code reads half as much."""
    if asked != "auto":
        return {"float16": torch.float16, "int8": torch.int8}[asked]
    return weights if found.native is None else cache_dtype(found.native.decoder)


def _native(decoder: Decoding, config: EngineConfig) -> Trial:
    if config.native == "off":
        return Trial(None, "PyTorch: native steps are off")
    if config.static_steps != "off" and config.native == "auto":
        return Trial(None, f"PyTorch: static steps are asked for ({config.static_steps})")
    if not isinstance(decoder, Decoder):
        found = Trial(None, "PyTorch: no plain decoder")
    else:
        found = trial_of(decoder, timed=config.native == "auto")
    if config.native == "on" and found.native is None:
        raise DeviceError(f"no native steps: {found.text}", hint='EngineConfig(native="auto")')
    return found


def _static(decoder: Decoding, config: EngineConfig, memory: PagedMemory) -> StaticSteps | None:
    if config.static_steps == "off":
        return None
    if config.native == "on":
        raise ConfigError("steps are static or native, not both", hint='static_steps="off" or native="auto"')
    if not isinstance(decoder, Decoder):
        raise ConfigError("static steps are for decoders", hint='static_steps="off"')
    return StaticSteps(decoder, memory, config.static_steps)


def _free_bytes(device: torch.device) -> int:
    """Of the device's memory that is free, the share that keys and values may take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * _MAX_GPU_SHARE)
    return int(psutil.virtual_memory().available * _MAX_CPU_SHARE)
