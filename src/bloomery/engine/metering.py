"""Phase: seconds and joules of one phase (prefill or decode) of one request.

A meter counts for the whole machine or process. When requests take turns, each is given its share of the joules
of the time that its phase spanned, in proportion to its share of the computing time. A meter is read twice per
phase, not per token, so metering costs nothing that shows. This module does not know how joules are read.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.engine.turns import Turns


class Bench:
    """What the requests of one model share: the meter, the turns, and `busy_seconds` of computing so far."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.turns = Turns()
        self.busy_seconds = 0.0


class Phase:
    """One phase; it begins when it is made. `seconds` counts this request's own computing, waiting left out."""

    def __init__(self, bench: Bench) -> None:
        self.seconds = 0.0
        self._bench = bench
        self._busy_before = bench.busy_seconds
        self._energy_before = bench.meter.read()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Compute inside: waits for this request's turn, then times it."""
        with self._bench.turns.take():
            started = time.perf_counter()
            try:
                yield
            finally:
                spent = time.perf_counter() - started
                self.seconds += spent
                self._bench.busy_seconds += spent

    def energy(self) -> Quantity:
        """Joules of this phase so far; exactly zero for a phase in which nothing was computed."""
        if self.seconds == 0.0:
            return Quantity.exact(0.0, "counter")
        spent = self._bench.meter.read() - self._energy_before
        busy = self._bench.busy_seconds - self._busy_before
        return spent.scaled(min(1.0, self.seconds / busy)) if busy > 0 else spent
