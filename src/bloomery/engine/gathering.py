"""Gathering: work of several threads computed together, by whoever waits.

As in `engine`, there is no thread of its own: who asks and finds nobody computing takes what has been asked by then,
computes it for all, and the others wait for theirs. Those that will ask again and again (each step of a text) say so by
being members: the step waits a moment for members that are not there yet, or they would take turns for ever, each
alone. An error of what several asked is found out by computing each alone, and raised where it belongs. This module
does not know what is computed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from bloomery.engine.metering import Bench, Phase

GRACE_SECONDS = 0.005
"""How long a step waits for members that are not there yet."""
J = TypeVar("J")
A = TypeVar("A")


@dataclass(frozen=True, kw_only=True)
class GatheringStats:
    """What was computed so far: steps, what was asked in them, and its size (tokens); `most` is the largest step."""

    steps: int = 0
    asked: int = 0
    size: int = 0
    most: int = 0
    waiting: int = 0
    """Asked, and not computed yet."""


@dataclass(eq=False)
class _Item(Generic[J, A]):
    job: J
    size: int
    arrived: float = field(default_factory=time.perf_counter)
    done: bool = False
    answer: A | None = None
    error: BaseException | None = None
    seconds: float = 0.0
    share: float = 1.0


class Gathering(Generic[J, A]):
    """See the module. Safe to use from several threads."""

    def __init__(
        self, bench: Callable[[], Bench], work: Callable[[Sequence[J]], Sequence[A]], *, capacity: int
    ) -> None:
        """`work` computes jobs together, an answer each; `capacity` is the size of a step, which a single job may
        exceed; `bench` says where it is timed."""
        self.capacity = capacity
        self._bench, self._work = bench, work
        self._condition = threading.Condition()
        self._queue: list[_Item[J, A]] = []
        self._computing = False
        self._members = 0
        self._steps = self._asked = self._size = self._most = 0

    def stats(self) -> GatheringStats:
        """Counts so far."""
        return GatheringStats(
            steps=self._steps, asked=self._asked, size=self._size, most=self._most, waiting=len(self._queue)
        )

    @contextmanager
    def member(self) -> Iterator[None]:
        """Inside, this thread asks step after step."""
        with self._condition:
            self._members += 1
        try:
            yield
        finally:
            with self._condition:
                self._members -= 1
                self._condition.notify_all()

    def ask(self, job: J, size: int, phase: Phase) -> A:
        """The job's answer; its share of the step is added to `phase`. Errors are those of `work`."""
        item: _Item[J, A] = _Item(job, size)
        with self._condition:
            self._queue.append(item)
            self._condition.notify_all()
        while not item.done:
            with self._condition:
                batch = self._next(item)
            if batch:
                self._compute(batch)
        phase.add(item.seconds, item.share)
        if item.error is not None:
            raise item.error
        return item.answer  # type: ignore[return-value]

    def _next(self, item: _Item[J, A]) -> list[_Item[J, A]]:
        """What to compute now; nothing once the item is done. The condition is held."""
        while not item.done:
            if self._computing:
                self._condition.wait()
                continue
            left = self._queue[0].arrived + GRACE_SECONDS - time.perf_counter()
            if len(self._queue) < self._members and left > 0:
                self._condition.wait(left)
                continue
            self._computing = True
            return self._taken()
        return []

    def _taken(self) -> list[_Item[J, A]]:
        """The first of the queue, as many as a step has room for."""
        batch, room = [self._queue[0]], self.capacity - self._queue[0].size
        for one in self._queue[1:]:
            if one.size <= room:
                batch.append(one)
                room -= one.size
        self._queue = [one for one in self._queue if one not in batch]
        return batch

    def _compute(self, batch: list[_Item[J, A]]) -> None:
        try:
            self._together(batch)
            if any(one.error is not None for one in batch) and len(batch) > 1:
                for one in batch:
                    one.error = None
                    self._together([one])
        except BaseException as error:  # an interrupt is nobody's, but nobody may wait for ever either
            for one in batch:
                one.error = one.error or error
            raise
        finally:
            with self._condition:
                for one in batch:
                    one.done = True
                self._computing = False
                self._condition.notify_all()

    def _together(self, batch: list[_Item[J, A]]) -> None:
        total = sum(one.size for one in batch)
        with self._bench().step() as step:
            try:
                for one, answer in zip(batch, self._work([one.job for one in batch]), strict=True):
                    one.answer = answer
            except Exception as error:
                for one in batch:
                    one.error = error
        for one in batch:
            one.seconds, one.share = one.seconds + step.seconds, one.size / max(1, total)
        with self._condition:
            self._steps += 1
            self._asked += len(batch)
            self._size += total
            self._most = max(self._most, len(batch))
