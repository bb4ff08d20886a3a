"""Which kind of ranks a stage has: alone, with replicated weights, or with sharded ones.

This module does not know how any of them works.
"""

from __future__ import annotations

from bloomery.training.parallel.data_parallel import Replicated
from bloomery.training.parallel.parallel_config import ParallelConfig
from bloomery.training.parallel.ranks import ALONE, Ranks
from bloomery.training.parallel.sharded import Sharded
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
        return Replicated(world, seed)
    return Sharded(world, seed, kind, tensor_ranks=config.tensor_ranks)
