"""Which kind of ranks a stage has: alone, with replicated weights, or with sharded ones.

This module does not know how any of them works.
"""

from __future__ import annotations

from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.training.parallel.parallel_config import ParallelConfig
from bloomery.training.parallel.ranks import ALONE, Ranks
from bloomery.training.parallel.world import World
from bloomery.training.speed import choose_device


def several(world: World | None, config: ParallelConfig, *, device: str, seed: int) -> Ranks:
    """The ranks of a stage on devices of a kind ("" takes GPUs where there are any), connected; every rank of the world
    calls it. ConfigError, DeviceError."""
    if world is None:
        return ALONE
    kind = choose_device(device)
    world.device(kind)
    world.connect(kind, config)
    if config.weights == "replicated" and config.tensor_ranks == 1:
        from bloomery.training.parallel.data_parallel import Replicated

        return Replicated(world, seed)
    from bloomery.training.parallel.sharded import Sharded

    return Sharded(world, seed, kind, tensor_ranks=config.tensor_ranks)


def recompute(model: nn.Module) -> None:
    """Let a model's layers be computed again in backward instead of being kept. ConfigError if it cannot."""
    able = [part for part in model.modules() if hasattr(part, "recomputes")]
    if not able:
        raise ConfigError("this model cannot compute its layers again", hint="--set parallel.recompute=false")
    for part in able:
        part.recomputes = True  # type: ignore[assignment]
