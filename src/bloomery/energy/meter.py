"""The meter of this machine: every counter that can be read, and the estimate for what cannot.

This module does not know how a counter is read, nor what joules cost.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.energy.estimate import EstimateMeter
from bloomery.energy.nvml import NvmlMeter, find_gpus
from bloomery.energy.rapl import POWERCAP, RaplMeter, find_rapl

Sharers = Callable[[], int]
"""How many use the machine's counters at this moment, the one who asks included."""
_sharers: ContextVar[Sharers | None] = ContextVar("sharers", default=None)


@contextmanager
def sharing(sharers: int | Sharers) -> Iterator[None]:
    """Inside, `open_meter` gives meters for one of several equal users of the machine's counters: of so many all the
    time, or of as many as the call says, which is asked at each reading."""
    asked = sharers if callable(sharers) else (lambda: sharers) if sharers > 1 else None
    before = _sharers.set(asked)
    try:
        yield
    finally:
        _sharers.reset(before)


class PartMeter:
    """One user's part of a counter that counts for all at the same time.

    What the counter gained between two readings is divided by how many use it at the second of them, so the parts of
    all, if they read often, add up to about what the counter says. Such a sum is "estimated", and lies between nothing
    and all of the counter; of who has always been alone it is what the counter says, to the bit.
    """

    def __init__(self, meter: Meter, sharers: Sharers) -> None:
        self._meter, self._sharers = meter, sharers
        self._lock = threading.Lock()
        self._counted = self._part = meter.read().central or 0.0
        self._alone = True

    def read(self) -> Quantity:
        with self._lock:
            whole, sharers = self._meter.read(), max(1, self._sharers())
            if whole.central is None or whole.high is None:
                return whole
            self._part += max(0.0, whole.central - self._counted) / sharers
            self._counted = whole.central
            self._alone = self._alone and sharers == 1
            if self._alone:
                return whole
            return Quantity(low=0.0, central=min(self._part, whole.high), high=whole.high, method="estimated")

    def describe(self) -> Mapping[str, Any]:
        told = "divided equally among those who use it at the same time"
        return {key: text if key == "method" else f"{text}; {told}" for key, text in self._meter.describe().items()}

    def close(self) -> None:
        self._meter.close()


class SumMeter:
    """Several meters of different parts of one machine, read as one."""

    def __init__(self, meters: Sequence[Meter], notes: Sequence[str]) -> None:
        self._meters, self._notes = list(meters), list(notes)

    def read(self) -> Quantity:
        total = self._meters[0].read()
        for meter in self._meters[1:]:
            total = total + meter.read()
        return total

    def describe(self) -> Mapping[str, Any]:
        described: dict[str, Any] = {}
        for meter in self._meters:
            described.update({key: value for key, value in meter.describe().items() if key != "method"})
        return {**described, "notes": self._notes}

    def close(self) -> None:
        for meter in self._meters:
            meter.close()


def open_meter(*, powercap: Path = POWERCAP, others: Sequence[int] = ()) -> Meter:
    """A meter of everything that this machine shows: GPUs by NVML, the processor by RAPL or by an estimate, which is
    then of the processes `others`, too. Within `sharing`, one user's part of what counts for all."""
    notes, meters, sharers = [], [], _sharers.get()
    part = lambda meter: meter if sharers is None else PartMeter(meter, sharers)  # noqa: E731
    rapl = find_rapl(powercap)
    try:
        meters.append(part(RaplMeter(rapl)) if rapl.domains else EstimateMeter(others=others))
    except (OSError, ValueError) as error:
        meters.append(EstimateMeter(others=others))
        notes.append(f"RAPL went away, so the CPU is estimated: {error}")
    if rapl.problem:
        notes.append(rapl.problem)
    gpus, problem = find_gpus()
    if gpus:
        meters.append(part(NvmlMeter(gpus)))
    else:
        notes.append(problem)
    return SumMeter(meters, notes)


def describe_meters(*, powercap: Path = POWERCAP) -> dict[str, Any]:
    """What would be metered and how, and why the rest is not: for `bloomery doctor`."""
    meter = open_meter(powercap=powercap)
    try:
        return dict(meter.describe())
    finally:
        meter.close()
