"""Ranks: what the loop sees of the processes that train together. Alone, every method does what one process does.

The global batch, the order of the data and the schedule (of so many steps; minutes buy others) do not depend on the
number of ranks: each makes every batch, and computes its share of the rows. The state of the data is therefore the same
on all, and a checkpoint, to which each rank writes what it has, is read whole by any number. Random numbers inside a
model (dropout) are drawn from (seed, step, rank) where there are several: nothing of them must be kept to go on
exactly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.training.objective import Batch, Objective, Validation, accumulate, part_of
from bloomery.training.optimizers import Optimizers
from bloomery.training.pieces import Piece

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Ranks:
    """One process alone."""

    rank, size = 0, 1
    batch_ranks = 1
    """In how many shares a batch is computed."""

    @property
    def leads(self) -> bool:
        """Whether this process writes every file that is not its part of a checkpoint, and talks."""
        return self.rank == 0

    def told(self, make: Callable[[], T]) -> T:
        """What rank 0 makes (JSON data), on all ranks."""
        return make()

    def everyone(self, own: T) -> list[T]:
        """What each rank has (JSON data), by rank, on all of them."""
        return [own]

    def sharing(self, device: torch.device) -> int:
        """How many ranks have the memory of this rank's device between them."""
        return 1

    def device(self, device: torch.device) -> torch.device:
        """This rank's own device of a kind."""
        return device

    def threads(self, threads: int) -> int:
        """Threads for this rank, of which one process alone would take `threads`."""
        return threads

    def guarded(self) -> AbstractContextManager[object]:
        """Around training: what to say if another rank ends."""
        return contextlib.nullcontext()

    def attach(self, objective: Objective) -> None:
        """Take the objective's model; before its optimisers are made, for its parameters may be replaced."""

    def compiled(self, model: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method of the model, through torch.compile."""
        return torch.compile(method, dynamic=False)

    def share(self, optimizers: Optimizers) -> None:
        """Divide the work of the optimisers; once, before the first step."""

    def begin(self, step: int) -> None:
        """Step number `step` begins."""

    def rest(self) -> None:
        """The step that has begun ends without an update."""

    def accumulate(
        self, objective: Objective, batch: Batch, micro_rows: int, device: torch.device, precision: str
    ) -> Tensor:
        """Add the gradient of a whole batch's mean loss to the parameters'; returns that loss."""
        return accumulate(objective, batch, micro_rows, device, precision)

    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """The norm of all gradients, which are scaled down to `max_norm` if that is not 0."""
        having = [p for p in parameters if p.grad is not None]
        norm = self.same(torch.nn.utils.get_total_norm([p.grad for p in having if p.grad is not None]))
        if max_norm:
            torch.nn.utils.clip_grads_with_norm_(having, max_norm, norm)
        return norm

    def same(self, own: Tensor) -> Tensor:
        """Rank 0's number, on all ranks: what each computes of the same gradients may differ in the last bit between
        processors of two kinds, and whether a step is taken must not."""
        return own

    def step(self, optimizers: Optimizers, multiplier: float) -> None:
        """One update."""
        optimizers.step(multiplier)

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag that is set on any rank."""
        return flags

    def validate(self, objective: Objective, batches: int | None, device: torch.device, precision: str) -> Validation:
        """`objective.validate`, the same on all ranks."""
        return objective.validate(batches, device, precision)

    def weights(self, optimizers: Optimizers) -> Mapping[str, Tensor | Piece]:
        """What this rank has of the trained parameters. All ranks ask, for some parts may have to be collected."""
        return optimizers.named

    def whole(self, model: M, make: Callable[[], M]) -> M:
        """The trained model with all of its weights, on rank 0; `make` gives another one of its kind."""
        return model

    def state(self, optimizers: Optimizers) -> Mapping[str, Tensor | Piece]:
        """What this rank has of the optimisers' state; all ask."""
        return optimizers.state_tensors()

    def take_weights(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
        """Load whole tensors; returns (missing, unexpected) names."""
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        return missing, unexpected

    def take_state(self, optimizers: Optimizers, tensors: Mapping[str, Tensor]) -> None:
        """Load of the whole state what this rank needs."""
        optimizers.load_state_tensors(tensors)


ALONE = Ranks()


def parts_of(batch: Batch, rank: int, size: int, micro_rows: int) -> list[dict[str, np.ndarray]]:
    """The rows of a batch that one of `size` ranks computes, in as many parts on each of them, of at most `micro_rows`
    rows where the rows allow it (a part has one row at least).

    ConfigError if there are more ranks than rows.
    """
    if batch.rows < size:
        raise ConfigError(f"a batch of {batch.rows} rows cannot be shared by {size} ranks", hint=f"batch_rows={size}")
    start, stop = (batch.rows * r // size for r in (rank, rank + 1))
    count = min(-(-batch.rows // (size * micro_rows)), batch.rows // size)
    cuts = [start + (stop - start) * part // count for part in range(count + 1)]
    return [part_of(batch.arrays, slice(*cut)) for cut in pairwise(cuts)]


def step_seed(seed: int, step: int, rank: int) -> int:
    """What PyTorch's generators start a step with where there are several ranks."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> 1)
