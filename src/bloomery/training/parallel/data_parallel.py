"""Replicated weights: each rank computes its share of a batch, PyTorch's DDP sums the gradients, all take one step.

Gradients are summed, not averaged, for losses are divided by the weight of the whole batch already. DDP's buckets stay
as they were made: regrouped after the first step, as it does by default, a resumed run would sum in another order than
a straight one. This module does not know objectives' losses, nor the loop.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.parallel import DistributedDataParallel

from bloomery.core.errors import ConfigError
from bloomery.training.objective import (
    Batch,
    Division,
    Objective,
    Validation,
    divided,
    placed,
    precision_context,
)
from bloomery.training.optimizers import Optimizers
from bloomery.training.parallel.launch import threads_each
from bloomery.training.parallel.matrices import SharedMatrices
from bloomery.training.parallel.ranks import Ranks, parts_of, step_seed
from bloomery.training.parallel.world import World
from bloomery.training.pieces import Piece

T = TypeVar("T")


class LossModule(nn.Module):
    """An objective's loss as a module's forward, which is what DDP and FSDP look at."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.model, self._objective = objective.model, objective

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        return self._objective.loss(arrays)

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        return self._objective.validate(batches, device, precision)


class Several(Ranks):
    """Ranks of a world; what holds whatever each of them has of the model. `seed` is the stage's."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.rank, self.size, self.seed = world, world.rank, world.size, seed
        self.batch_rank, self.batch_ranks = world.rank, world.size
        """Which share of a batch is this rank's, and of how many."""
        self._matrices: SharedMatrices | None = None

    def told(self, make: Callable[[], T]) -> T:
        return self.world.told(make() if self.leads else None)

    def everyone(self, own: T) -> list[T]:
        return [json.loads(text) for text in exchanged(json.dumps(own), self.size)]

    def sharing(self, device: torch.device) -> int:
        return 1 if device.type == "cuda" else self.world.on_this_machine

    def device(self, device: torch.device) -> torch.device:
        return self.world.device(device)

    def threads(self, threads: int) -> int:
        return min(threads, threads_each(self.world.on_this_machine))

    def guarded(self) -> AbstractContextManager[object]:
        return self.world.guarded()

    def attach(self, objective: Objective) -> None:
        if not objective.divisible and self.batch_ranks > 1:
            raise ConfigError("this loss is of a whole batch: several ranks cannot share it", hint="--ranks 1")

    def share(self, optimizers: Optimizers) -> None:
        self._matrices = SharedMatrices(optimizers, self.rank, self.size)

    def begin(self, step: int) -> None:
        torch.manual_seed(step_seed(self.seed, step, self.batch_rank))
        if self.world.watchdog is not None:
            self.world.watchdog.step(step)

    def compiled(self, model: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        self.allow_compiling()
        return super().compiled(model, method)

    def allow_compiling(self) -> None:
        """From now on a step may take as long as that does."""
        if self.world.watchdog is not None:
            self.world.watchdog.allow_compiling()

    def same(self, own: Tensor) -> Tensor:
        dist.broadcast(own, 0)
        return own

    def step(self, optimizers: Optimizers, multiplier: float) -> None:
        self._shared(optimizers).step(multiplier)
        self.rest()

    def rest(self) -> None:
        if self.world.watchdog is not None:
            self.world.watchdog.rest()

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        told = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in told.tolist())

    def state(self, optimizers: Optimizers) -> Mapping[str, Tensor | Piece]:
        return self._shared(optimizers).state_pieces()

    def take_state(self, optimizers: Optimizers, tensors: Mapping[str, Tensor]) -> None:
        self._shared(optimizers).load_state_tensors(tensors)

    def computed(self) -> None:
        """This rank's part of the step is there."""
        if self.world.watchdog is not None:
            self.world.watchdog.computed()

    def _shared(self, optimizers: Optimizers) -> SharedMatrices:
        assert self._matrices is not None and self._matrices.optimizers is optimizers
        return self._matrices


class _Divided(Division):
    """Every size-th batch; sums go as JSON, for a rank without a batch does not know which there are."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    def own(self, items: Iterable[T]) -> Iterator[T]:
        return islice(items, self._rank, None, self._size)

    def total(self, sums: Mapping[str, float]) -> Mapping[str, float]:
        total: Counter[str] = Counter()
        for text in exchanged(json.dumps({name: float(value) for name, value in sums.items()}), self._size):
            total.update(json.loads(text))
        return total


def exchanged(text: str, size: int) -> list[str]:
    """Each rank's text, on all of them, by rank."""
    own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size)]
    dist.all_gather(lengths, torch.tensor([len(own)]))
    longest = int(max(lengths))
    texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(size)]
    dist.all_gather(texts, torch.nn.functional.pad(own, (0, longest - len(own))))
    return [bytes(part[: int(n)].tolist()).decode() for part, n in zip(texts, lengths, strict=True)]


class Replicated(Several):
    """Each rank has the whole model."""

    def validate(self, objective: Objective, batches: int | None, device: torch.device, precision: str) -> Validation:
        with divided(_Divided(self.rank, self.size)):
            return objective.validate(batches, device, precision)

    def attach(self, objective: Objective) -> None:
        super().attach(objective)
        # Looking for unused parameters keeps DDP from regrouping its buckets (and leaves one that no rank has used
        # without a gradient, as it is alone); if it finds none it prints that looking for them is of no use.
        module = LossModule(objective)
        module.unused = nn.Parameter(torch.zeros((), device=next(objective.model.parameters()).device))
        self._ddp = DistributedDataParallel(module, find_unused_parameters=True)
        # Not the function itself: DDP looks at annotations, which are text here.
        self._ddp.register_comm_hook(None, lambda state, bucket: _summed(bucket))

    def accumulate(
        self, objective: Objective, batch: Batch, micro_rows: int, device: torch.device, precision: str
    ) -> Tensor:
        parts = parts_of(batch, self.batch_rank, self.batch_ranks, micro_rows)
        total = torch.zeros((), device=device)
        for number, part in enumerate(parts, 1):
            last, inputs = number == len(parts), placed(objective, part, device)
            with contextlib.nullcontext() if last else self._ddp.no_sync():
                with precision_context(device, precision):
                    loss = self._ddp(inputs) / max(1, batch.weight)
                total += loss.detach()
                if last:
                    self.computed()
                loss.backward()
        dist.all_reduce(total)
        return total


def _summed(bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """A bucket of gradients, summed over all ranks."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    assert work is not None
    return work.get_future().then(lambda future: future.value()[0])
