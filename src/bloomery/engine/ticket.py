"""Ticket: what whoever waits for a request in the engine is told: deltas of its samples in order, or what went wrong.

This module does not know who makes the steps.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from bloomery.engine.results import Delta
from bloomery.engine.sequence import SequenceState

Told = tuple[SequenceState, Delta]


@dataclass(eq=False)
class Ticket:
    """Of requests that came together, with all their samples in `sequences`. Whoever waits is woken by `wake`."""

    sequences: list[SequenceState]
    wake: threading.Condition
    ready: deque[tuple[int, Delta]] = field(default_factory=deque)
    error: BaseException | None = None
    unfinished: int = field(init=False)

    def __post_init__(self) -> None:
        self.unfinished = len(self.sequences)

    @property
    def has_news(self) -> bool:
        """Whether there is something to read, an end included."""
        return bool(self.ready or self.error is not None or not self.unfinished)

    @property
    def unread(self) -> int:
        """Tokens that are to be computed before all of its texts have their next."""
        return sum(one.unread for one in self.sequences)

    def tell(self, one: SequenceState, delta: Delta) -> None:
        self.ready.append((self.sequences.index(one), delta))
        self.unfinished -= delta.result is not None
