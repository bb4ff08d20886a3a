"""Phase: seconds and joules of one phase (prefill or decode) of one request.

A meter counts for the whole machine or process. When requests run at the same time, each is given its share of the
joules of the time that its phase spanned, in proportion to its share of the computing: a step is divided among the
tokens that were computed in it. A meter is read twice per phase, not per token, so metering costs nothing that shows.
This module does not know how joules are read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.energy import open_meter
from bloomery.engine.turns import Turns


class Busy:
    """Seconds of computing so far, of all models of this process: they share the machine that a meter counts."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        with self._lock:
            self.seconds += seconds


_BUSY = Busy()


class Bench:
    """What the requests of one model share: the meter and the turns; with other models, `busy_seconds` of computing."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.turns = Turns()

    @property
    def busy_seconds(self) -> float:
        """Of all models of this process."""
        return _BUSY.seconds

    @contextmanager
    def step(self, *, within: Step | None = None) -> Iterator[Step]:
        """Compute inside: waits for a turn, then times it. The step says afterwards how long it took. `within`: in the
        middle of that step, whose turn it has, and whose time it is not."""
        with nullcontext() if within is not None else self.turns.take():
            step, started = Step(), time.perf_counter()
            try:
                yield step
            finally:
                whole = time.perf_counter() - started
                step.seconds = whole - step.lent_seconds
                if within is not None:
                    within.lent_seconds += whole
                _BUSY.add(step.seconds)

    @contextmanager
    def beside(self) -> Iterator[Step]:
        """As `step`, but waits for nobody: for what needs no model and mostly takes less time than a turn does."""
        step, started = Step(), time.perf_counter()
        try:
            yield step
        finally:
            step.seconds = time.perf_counter() - started
            _BUSY.add(step.seconds)


class LazyBench:
    """A bench whose meter is opened when something is computed first. Safe to call from several threads."""

    def __init__(self, meter: Meter | None = None) -> None:
        """`meter` None opens the machine's own."""
        self._bench = None if meter is None else Bench(meter)
        self._lock = threading.Lock()

    def __call__(self) -> Bench:
        with self._lock:
            if self._bench is None:
                self._bench = Bench(open_meter())
            return self._bench

    def close(self) -> None:
        """Close the meter, if it was opened."""
        if self._bench is not None:
            self._bench.meter.close()


class Step:
    """One step of computing; `seconds` is known when it is over, without those that it lent to others in its middle."""

    seconds = lent_seconds = 0.0


class Phase:
    """One phase; it begins when it is made. `seconds` counts the steps in which the request took part, waiting left
    out; `steps` is their number."""

    def __init__(self, bench: Bench, *, since: Phase | None = None) -> None:
        """`since`: it began when that one did, with which it takes turns."""
        self.seconds = 0.0
        self.steps = 0
        self._own_seconds = 0.0
        self._bench = bench
        self._busy_before = bench.busy_seconds if since is None else since._busy_before
        self._energy_before = bench.meter.read() if since is None else since._energy_before
        self._energy: Quantity | None = None

    def add(self, seconds: float, share: float = 1.0, *, steps: int = 1) -> None:
        """A step of so many seconds, of which the request had this share; work beside a step is no step."""
        self.seconds += seconds
        self.steps += steps
        self._own_seconds += seconds * share

    @contextmanager
    def step(self) -> Iterator[None]:
        """A step of this request alone."""
        with self._bench.step() as step:
            yield
        self.add(step.seconds)

    def close(self) -> None:
        """The phase is over: its joules are read now."""
        if self._energy is None:
            self._energy = self._read()

    def energy(self) -> Quantity:
        """Joules of this phase, so far or until it was closed; exactly zero if nothing was computed in it."""
        return self._read() if self._energy is None else self._energy

    def _read(self) -> Quantity:
        if self._own_seconds == 0.0:
            return Quantity.exact(0.0, "counter")
        spent = self._bench.meter.read() - self._energy_before
        busy = self._bench.busy_seconds - self._busy_before
        return spent.scaled(min(1.0, self._own_seconds / busy)) if busy > 0 else spent
