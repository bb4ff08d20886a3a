"""Drain: the end of a server in good order: nobody new is let in, and who is in may finish.

This module does not know signals or HTTP.
"""

from __future__ import annotations

import threading
import time


class Drain:
    """Thread-safe; `begin` may be called from a signal handler, so it takes no lock."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._inside = 0
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        return self._since is not None

    @property
    def inside(self) -> int:
        """How many visits are not over."""
        return self._inside

    @property
    def seconds(self) -> float:
        """Since it began; 0 before."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def begin(self) -> None:
        """Let nobody in from now on."""
        if self._since is None:
            self._since = time.monotonic()

    def enter(self) -> None:
        with self._lock:
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
