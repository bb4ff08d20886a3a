"""The meter of this machine: every counter that can be read, and the estimate for what cannot.

This module does not know how a counter is read, nor what joules cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.energy.estimate import EstimateMeter
from bloomery.energy.nvml import NvmlMeter, find_gpus
from bloomery.energy.rapl import POWERCAP, RaplMeter, find_rapl


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
    then of the processes `others`, too."""
    notes, meters = [], []
    rapl = find_rapl(powercap)
    try:
        meters.append(RaplMeter(rapl) if rapl.domains else EstimateMeter(others=others))
    except (OSError, ValueError) as error:
        meters.append(EstimateMeter(others=others))
        notes.append(f"RAPL went away, so the CPU is estimated: {error}")
    if rapl.problem:
        notes.append(rapl.problem)
    gpus, problem = find_gpus()
    if gpus:
        meters.append(NvmlMeter(gpus))
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
