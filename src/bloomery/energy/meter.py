"""The meter of this machine: every counter that can be read, and the estimate for what cannot.

This module does not know how a counter is read, nor what joules cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.energy.estimate import EstimateMeter
from bloomery.energy.nvml import NvmlMeter, find_gpus
from bloomery.energy.rapl import POWERCAP, RaplMeter, find_rapl

_sharers: ContextVar[int] = ContextVar("sharers", default=1)


@contextmanager
def sharing(sharers: int) -> Iterator[None]:
    """Inside, `open_meter` gives meters for one of so many equal users of the machine's counters."""
    before = _sharers.set(max(1, sharers))
    try:
        yield
    finally:
        _sharers.reset(before)


class PartMeter:
    """One user's part of a counter that counts for several at the same time: an equal one, or anything between nothing
    and all of it; method "estimated". Their sum is then what the counter says."""

    def __init__(self, meter: Meter, sharers: int) -> None:
        self._meter, self._sharers = meter, sharers

    def read(self) -> Quantity:
        whole = self._meter.read()
        if whole.central is None or whole.high is None:
            return whole
        return Quantity(low=0.0, central=whole.central / self._sharers, high=whole.high, method="estimated")

    def describe(self) -> Mapping[str, Any]:
        told, part = dict(self._meter.describe()), f"one of {self._sharers} equal parts"
        return {**{key: f"{text}; {part}" for key, text in told.items() if key != "method"}, "method": "estimated"}

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
    part = lambda meter: PartMeter(meter, sharers) if sharers > 1 else meter  # noqa: E731
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
