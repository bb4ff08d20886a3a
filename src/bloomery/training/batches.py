"""BatchObjective: what most objectives share. A loader's material becomes batches; losses and figures are summed.

Random choices of a batch are drawn from (seed, number of the batch), those of validation from its place alone: the same
labels every time, whatever was trained before. This module does not know any one loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.training.loader import Loader
from bloomery.training.objective import (
    Batch,
    Validation,
    evaluating,
    own_batches,
    precision_context,
    take,
    to_device,
    totals,
)

R = TypeVar("R")
_TRAIN, HELD_OUT = 1, 2


class BatchObjective(ABC, Generic[R]):
    """An objective over a loader's material of type R. `headline` names the figure of validation that counts, `kept_by`
    the one by which the best is told, if that is another (see `Validation`)."""

    unit = "tok"
    divisible = True
    packed = False
    headline = "nats_per_token"
    kept_by = ""

    def __init__(self, model: nn.Module, loader: Loader[R], *, seed: int) -> None:
        self._model, self.loader, self.seed = model, loader, seed
        self._made = 0

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self._model

    @abstractmethod
    def collate(self, material: R, rng: np.random.Generator, *, training: bool) -> Batch:
        """A batch with its labels; augmentations belong to training alone."""

    def placed(self, arrays: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
        """A batch's arrays as `loss` and `figures` take them: on the device."""
        return to_device(arrays, device)

    @abstractmethod
    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """The summed loss of some rows."""

    @abstractmethod
    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Sums over a batch of what validation reports; divided by the batches' weight."""

    def next_batch(self, rows: int) -> Batch:
        """The loader's next material, collated."""
        material = self.loader.next(rows)
        batch = self.collate(material, np.random.default_rng([self.seed, _TRAIN, self._made]), training=True)
        self._made += 1
        return batch

    def held_out(self) -> Iterator[Batch]:
        """The batches of validation, with the same labels every time."""
        for place, material in enumerate(self.loader.held_out()):
            yield self.collate(material, np.random.default_rng([self.seed, HELD_OUT, place]), training=False)

    def can_validate(self) -> bool:
        """Whether anything is held out."""
        return bool(self.loader)

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """The figures' means."""
        sums: Counter[str] = Counter()
        weight = 0.0
        with evaluating(self._model):
            for batch in own_batches(take(self.held_out(), batches)):
                with precision_context(device, precision):
                    sums.update(self.figures(self.placed(batch.arrays, device)))
                weight += batch.weight
        weights, figures = totals({"weight": weight}), totals(sums)
        values = {name: total / max(1.0, weights["weight"]) for name, total in figures.items()}
        return Validation(self.summary(values), self.headline, self.kept_by)

    def summary(self, values: dict[str, float]) -> dict[str, float]:
        """What validation reports, of the means of the figures."""
        return values

    def state_dict(self) -> dict[str, Any]:
        """The loader's place and the number of batches made."""
        return {"loader": self.loader.state_dict(), "made": self._made}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.loader.load_state_dict(state["loader"])
        self._made = int(state["made"])

    def stats(self) -> dict[str, Any]:
        """The loader's."""
        return self.loader.stats()


def padded(rows: Sequence[np.ndarray] | Sequence[Sequence[int]], value: int, *, multiple: int = 1) -> np.ndarray:
    """Rows of different length as one int64 array (B, longest), `value` after each end; ConfigError for no row.

    The width is rounded up to a `multiple`: fewer shapes, which a compiler or an allocator sees.
    """
    if not len(rows):
        raise ConfigError("a batch has no rows")
    width = -(-max(1, *(len(row) for row in rows)) // multiple) * multiple
    made = np.full((len(rows), width), value, dtype=np.int64)
    for row, ids in zip(made, rows, strict=True):
        row[: len(ids)] = ids
    return made


def mask_of(rows: Sequence[np.ndarray] | Sequence[Sequence[int]], width: int) -> np.ndarray:
    """(B, width) int64: 1 where a row has something, 0 where it is padded."""
    lengths = np.array([len(row) for row in rows])
    return (np.arange(width) < lengths[:, None]).astype(np.int64)
