"""Objective: what is learnt. Batches with labels made on the fly, the loss of a batch, and a validation.

`Loop` trains any model through this one door. An objective owns its model, its data order and the random numbers of
its labels, so that its `state_dict` is all that a resumed run needs beside weights, optimiser and PyTorch's generators.
This module does not know any one objective, optimisers or schedules. Shapes: B rows of a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Arrays by name, each with B rows; the summed loss is divided by `weight`, and `items` counts what was read."""

    arrays: Mapping[str, np.ndarray]
    weight: float
    items: int

    @property
    def rows(self) -> int:
        return len(next(iter(self.arrays.values())))


@dataclass(frozen=True)
class Validation:
    """Figures by name; `headline` names the one that progress and curves show, `kept_by` the one by which the best of
    several is told, if that is another."""

    values: Mapping[str, float]
    headline: str
    kept_by: str = ""

    @property
    def value(self) -> float:
        return self.values[self.headline]

    @property
    def worth(self) -> float:
        """What the best has most of."""
        return worth(self.values, self.kept_by or self.headline)


HIGHER_IS_BETTER = frozenset({"accuracy", "macro_f1", "r_squared", "recall_in_batch", "reward"})
"""Figures of validations of which more is better; of others, losses, less is."""


def worth(values: Mapping[str, float], name: str) -> float:
    """A figure, negated if less of it is better."""
    return values[name] if name in HIGHER_IS_BETTER else -values[name]


class Objective(Protocol):
    """One way of learning from one kind of data.

    `unit` names what a batch's `items` count, `divisible` says whether a batch's loss is a sum over its rows: a
    contrastive one is not, and cannot be computed in parts. `packed` says whether batches are full of tokens, so that
    their losses vary little.
    """

    unit: str
    divisible: bool
    packed: bool

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    def next_batch(self, rows: int) -> Batch:
        """The next batch for training; random choices come from the objective's own state."""
        ...

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """The summed loss, in nats where it is a likelihood, of some rows of a batch."""
        ...

    def can_validate(self) -> bool:
        """Whether there is anything to validate on."""
        ...

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """Figures over the first `batches` batches of what is held out, or all; the same labels every time."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where reading stands, as JSON data."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict()` was taken. ConfigError if it belongs to other data."""
        ...

    def stats(self) -> dict[str, Any]:
        """What was read so far, for the artifact's manifest."""
        ...


def precision_context(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Autocast to bfloat16 for precision "bfloat16", nothing for "float32"."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def to_device(arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Arrays as tensors on the device; the copy to a GPU does not wait."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if device.type == "cuda":
        return {name: t.pin_memory().to(device, non_blocking=True) for name, t in tensors.items()}
    return tensors


def part_of(arrays: Mapping[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
    """Some rows of every array."""
    return {name: array[rows] for name, array in arrays.items()}


def placed(objective: Objective, arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    """Arrays as an objective's loss takes them: it may have a `placed` of its own, instead of `to_device`."""
    return getattr(objective, "placed", to_device)(arrays, device)


def accumulate(objective: Objective, batch: Batch, micro_rows: int, device: torch.device, precision: str) -> Tensor:
    """Add the gradient of a batch's mean loss to the parameters', `micro_rows` rows at a time; returns that loss."""
    total = torch.zeros((), device=device)
    for start in range(0, batch.rows, micro_rows):
        inputs = placed(objective, part_of(batch.arrays, slice(start, start + micro_rows)), device)
        with precision_context(device, precision):
            loss = objective.loss(inputs) / max(1, batch.weight)
        loss.backward()
        total += loss.detach()
    return total


class Division:
    """Which batches of a validation this process computes, and sums over all processes: alone, every batch."""

    def own(self, items: Iterable[T]) -> Iterator[T]:
        """Those of the batches that are this process's."""
        return iter(items)

    def total(self, sums: Mapping[str, float]) -> Mapping[str, float]:
        """Each sum over all processes; one that computed no batch gives none."""
        return sums


_WHOLE = Division()
_division: ContextVar[Division | None] = ContextVar("division", default=None)


@contextlib.contextmanager
def divided(division: Division) -> Iterator[None]:
    """Inside, batches of a validation are divided among processes, all of which must be inside."""
    token = _division.set(division)
    try:
        yield
    finally:
        _division.reset(token)


def own_batches(items: Iterable[T]) -> Iterator[T]:
    """Of batches to validate on, those that are this process's; see `divided`."""
    return (_division.get() or _WHOLE).own(items)


def totals(sums: Mapping[str, float]) -> Mapping[str, float]:
    """Sums over the batches of all processes; see `divided`."""
    return (_division.get() or _WHOLE).total(sums)


def take(items: Iterable[T], count: int | None) -> Iterator[T]:
    """The first `count` items, or all."""
    if count is None:
        yield from items
        return
    for _, item in zip(range(count), items, strict=False):
        yield item


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode and no gradient is kept; its mode before comes back after."""
    before = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(before)
