"""How a training run is spread over processes. It decides time and memory, not the result beyond rounding, so it is no
part of a stage's key: a run begun on two ranks goes on with one, or with four.

This module does not know processes, nor PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bloomery.core.config import check_choices
from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """What a user may say of it; under torchrun the number of ranks is torchrun's."""

    ranks: int = 1
    """Processes on this machine, or of a Ray cluster, one for each GPU, or each with its share of the cores."""
    engine: Literal["local", "ray"] = "local"
    """Where ranks are started: on this machine, or by Ray's torch trainer (on the cluster that RAY_ADDRESS names, else
    one on this machine; all of its nodes must see the workspace)."""
    restarts: int = 0
    """ray: how often all ranks are started again, from the last checkpoint, when one of them dies."""
    weights: Literal["replicated", "sharded"] = "replicated"
    """replicated: each rank has the whole model (DDP); sharded: each keeps its part of weights, gradients and optimiser
    state and collects a layer when it computes it (FSDP2)."""
    tensor_ranks: int = 1
    """Ranks that compute each layer together, every one some heads and some of the feed-forward; decoders only."""
    recompute: bool = False
    """Compute a layer's inside again in backward instead of keeping it: less memory, up to a third more time."""
    stall_seconds: float = 60.0
    """A rank that shows no sign of life, or takes no step, for this long ends the run ..."""
    stall_factor: float = 50.0
    """... if it is also this many times the usual step."""

    def __post_init__(self) -> None:
        check_choices(self, where="parallel")
        for name in ("ranks", "tensor_ranks"):
            if getattr(self, name) < 1:
                raise ConfigError(f'"parallel.{name}" should be at least 1')
        if self.restarts < 0 or (self.restarts and self.engine == "local"):
            raise ConfigError('"parallel.restarts" should be at least 0, and is for the engine ray alone')
        if not (self.stall_seconds > 0 and self.stall_factor >= 1):
            raise ConfigError('"parallel.stall_seconds" should be above 0 and "parallel.stall_factor" at least 1')

    def check(self, ranks: int) -> None:
        """ConfigError if that many ranks cannot be divided as this says."""
        if ranks % self.tensor_ranks:
            raise ConfigError(
                f"{ranks} ranks cannot be divided into groups of {self.tensor_ranks}",
                hint=f"--ranks {-(-ranks // self.tensor_ranks) * self.tensor_ranks}, or --set parallel.tensor_ranks=1",
            )
        if 1 < self.tensor_ranks < ranks and self.weights == "replicated":
            raise ConfigError(
                "groups of tensor ranks that also share a batch need sharded weights",
                hint="--set parallel.weights=sharded",
            )


def check_heads(heads: int, kv_heads: int, tensor_ranks: int) -> None:
    """ConfigError for heads that so many tensor ranks cannot divide among them."""
    if heads % tensor_ranks or kv_heads % tensor_ranks:
        raise ConfigError(
            f"{heads} heads and {kv_heads} key-value heads cannot be divided among {tensor_ranks} tensor ranks",
            hint="--set parallel.tensor_ranks=1",
        )
