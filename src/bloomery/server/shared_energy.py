"""SharedEnergy: the joules of cards that another process computes on, divided among the requests that it answers.

Between two moments at which a request begins or ends, what the cards have used is divided evenly among those that run;
what they use while none does belongs to nobody. This module does not know processes or HTTP.
"""

from __future__ import annotations

import threading

from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter


class SharedEnergy:
    """Thread-safe. Without a meter every share is unknown."""

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._running: dict[str, Quantity] = {}
        self._last = self._read()

    def begin(self, request: str) -> None:
        with self._lock:
            self._divide()
            self._running[request] = Quantity.exact(0.0, "counter") if self._meter is not None else Quantity.unknown()

    def end(self, request: str) -> Quantity:
        """Its joules; unknown for one that never began."""
        with self._lock:
            self._divide()
            return self._running.pop(request, Quantity.unknown())

    def change(self, meter: Meter | None) -> None:
        """Count other cards from now on. What runs now stays unknown: it ran on two."""
        with self._lock:
            self._running = dict.fromkeys(self._running, Quantity.unknown())
            if self._meter is not None:
                self._meter.close()
            self._meter = meter
            self._last = self._read()

    def close(self) -> None:
        self.change(None)

    def _read(self) -> Quantity:
        return Quantity.unknown() if self._meter is None else self._meter.read()

    def _divide(self) -> None:
        now = self._read()
        if self._running:
            share = (now - self._last).scaled(1 / len(self._running))
            self._running = {request: before + share for request, before in self._running.items()}
        self._last = now
