"""Loaders: what an objective makes its batches from, in an order that a resumed run takes up exactly.

`RowLoader` gives packed rows of tokens, `ExampleLoader` examples of a list in an order drawn anew for every epoch. Both
give the held-out part in a fixed order. This module does not know labels, models or losses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer import PackedRows, TokenShards, evaluation_rows

E = TypeVar("E")
R = TypeVar("R", covariant=True)
TokenRows = tuple[np.ndarray, np.ndarray]
_POOL_BATCHES = 32


class Loader(Protocol[R]):
    """Raw material for batches of type R."""

    def next(self, rows: int) -> R:
        """What the next batch of training is made from."""
        ...

    def held_out(self) -> Iterator[R]:
        """What is validated on, once, in a fixed order."""
        ...

    def __bool__(self) -> bool:
        """Whether anything is held out."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where reading stands, as JSON data."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict()` was taken. ConfigError if it belongs to other data."""
        ...

    def stats(self) -> dict[str, Any]:
        """What was read so far."""
        ...


class RowLoader:
    """Packed rows: (input_ids, labels), both (B, T), labels -100 at padding, as `PackedRows` gives them."""

    def __init__(self, rows: PackedRows, validation: TokenShards | None, *, validation_rows: int = 32) -> None:
        self.rows, self.validation, self.validation_rows = rows, validation, validation_rows

    def next(self, rows: int) -> TokenRows:
        """The next `rows` rows of training."""
        return self.rows.next_batch(rows)

    def held_out(self) -> Iterator[TokenRows]:
        """The validation split in rows, documents in order."""
        if self.validation is not None:
            yield from evaluation_rows(self.validation, self.rows.context_length, self.validation_rows)

    def __bool__(self) -> bool:
        return self.validation is not None and self.validation.num_tokens > 0

    def state_dict(self) -> dict[str, Any]:
        """Where the rows stand."""
        return self.rows.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.rows.load_state_dict(state)

    def stats(self) -> dict[str, Any]:
        """How the rows were packed."""
        return {"packing": dict(self.rows.stats)}


class ExampleLoader(Generic[E]):
    """Batches of `rows` examples, every epoch in a new order drawn from (seed, epoch).

    With `lengths`, one number an example, examples of like length come together: an epoch's order is cut into pools of
    32 batches, each sorted by length, and the batches are shuffled. What is left over at the end of an epoch, fewer
    than a batch, waits for another one. All examples are in memory.
    """

    def __init__(
        self,
        train: Sequence[E],
        validation: Sequence[E],
        *,
        rows: int,
        seed: int,
        lengths: Sequence[int] | None = None,
    ) -> None:
        if not len(train):
            raise DataError("there is no example to train on")
        if lengths is not None and len(lengths) != len(train):
            raise ConfigError(f"{len(lengths)} lengths for {len(train)} examples")
        self.train, self.validation = train, validation
        self.rows, self.seed = min(rows, len(train)), seed
        self._lengths = None if lengths is None else np.asarray(lengths)
        self._epoch, self._position = -1, 0
        self._batches = np.zeros((0, 0), dtype=np.int64)
        self._seen = 0

    @property
    def epoch(self) -> int:
        """The epoch of the batch given last; 0 is the first."""
        return max(0, self._epoch)

    def next(self, rows: int) -> list[E]:
        """The next batch. ConfigError if `rows` is not what the loader was made for."""
        if min(rows, len(self.train)) != self.rows:
            raise ConfigError(f"a batch of {rows} rows was asked for, but the loader was made for {self.rows}")
        if self._position >= len(self._batches):
            self._begin(self._epoch + 1)
        chosen = self._batches[self._position]
        self._position += 1
        self._seen += len(chosen)
        return [self.train[index] for index in chosen.tolist()]

    def held_out(self) -> Iterator[list[E]]:
        """The examples that are held out, in order; the last batch may be smaller."""
        for start in range(0, len(self.validation), self.rows):
            yield list(self.validation[start : start + self.rows])

    def __bool__(self) -> bool:
        return len(self.validation) > 0

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batch within it."""
        return {"data": self._identity(), "epoch": self._epoch, "position": self._position, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there; ConfigError if it belongs to other data."""
        if state["data"] != self._identity():
            raise ConfigError("the saved data position belongs to other data, or another batch size or seed")
        self._epoch, self._batches = -1, self._batches[:0]
        if int(state["epoch"]) >= 0:
            self._begin(int(state["epoch"]))
        self._position, self._seen = int(state["position"]), int(state["seen"])

    def stats(self) -> dict[str, Any]:
        """Examples there are, and how many were read."""
        return {"examples": len(self.train), "held_out": len(self.validation), "examples_read": self._seen}

    def _identity(self) -> dict[str, int]:
        return {"examples": len(self.train), "rows": self.rows, "seed": self.seed}

    def _begin(self, epoch: int) -> None:
        self._epoch, self._position = epoch, 0
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.train))
        order = order[: len(order) // self.rows * self.rows]
        if self._lengths is not None:
            pool = self.rows * _POOL_BATCHES
            parts = [order[at : at + pool] for at in range(0, len(order), pool)]
            order = np.concatenate([part[np.argsort(self._lengths[part], kind="stable")] for part in parts])
        batches = order.reshape(-1, self.rows)
        self._batches = batches if self._lengths is None else batches[rng.permutation(len(batches))]
