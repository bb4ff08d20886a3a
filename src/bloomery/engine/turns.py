"""Turns: a fair lock, first come first served.

Requests that are generated at the same time take turns step by step; a plain lock would let whoever holds it take
it again and again. This module does not know what is done in a turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """`with turns.take(): ...` waits in the order of arrival. Not re-entrant."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._queue: deque[threading.Lock] = deque()
        self._taken = False

    @property
    def waiting(self) -> int:
        """How many threads wait for their turn."""
        return len(self._queue)

    @contextmanager
    def take(self) -> Iterator[None]:
        self._acquire()
        try:
            yield
        finally:
            self._release()

    def _acquire(self) -> None:
        with self._mutex:
            if not self._taken:
                self._taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._queue.append(gate)
        try:
            gate.acquire()
        except BaseException:
            # Interrupted (Ctrl-C) while waiting: leave the queue, or hand on a turn that has just been given.
            with self._mutex:
                given = gate not in self._queue
                if not given:
                    self._queue.remove(gate)
            if given:
                self._release()
            raise

    def _release(self) -> None:
        with self._mutex:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._taken = False
