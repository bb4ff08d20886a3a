"""An estimate of CPU and memory energy where no counter can be read, as on most virtual machines.

Watts of a virtual CPU between idle and busy, by utilisation, are those of the Cloud Carbon Footprint methodology
(averages over SPECpower results of the processors that large clouds run): 0.74 W idle and 3.5 W busy; memory is
0.392 W per GB (the same source, after Crucial and Micron). The utilisation is that of this process and its
children alone; the idle share of the cores is counted in the high bound, left out of the low one.

What this module does not know: the processor's real power. The bounds are wide on purpose: three tools asked about
one such machine have answered 0, 27 and 95 W.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

from bloomery.core.quantity import Quantity

IDLE_WATTS_PER_VCPU = 0.74
BUSY_WATTS_PER_VCPU = 3.5
# A busy core of a small desktop or laptop processor: package power over cores of common parts.
HIGH_BUSY_WATTS_PER_VCPU = 10.0
WATTS_PER_GB = 0.392


class EstimateMeter:
    """Joules of this process by its CPU seconds and resident memory; method "estimated"."""

    def __init__(self, *, busy_watts_per_vcpu: float = BUSY_WATTS_PER_VCPU) -> None:
        import psutil

        self._process = psutil.Process()
        self._vcpus = (
            len(self._process.cpu_affinity()) if hasattr(self._process, "cpu_affinity") else psutil.cpu_count()
        )
        self._busy = busy_watts_per_vcpu
        self._lock = threading.Lock()
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()
        self._gigabyte_seconds = 0.0
        self._cpu_total = 0.0
        self._wall_total = 0.0

    def read(self) -> Quantity:
        with self._lock:
            wall, cpu = time.perf_counter(), _cpu_seconds()
            elapsed = max(0.0, wall - self._wall)
            self._cpu_total += max(0.0, cpu - self._cpu)
            self._wall_total += elapsed
            self._gigabyte_seconds += elapsed * self._process.memory_info().rss / 1e9
            self._wall, self._cpu = wall, cpu
            busy_joules = self._cpu_total * self._busy
            idle_joules = max(0.0, self._wall_total * (self._vcpus or 1) - self._cpu_total) * IDLE_WATTS_PER_VCPU
            memory = self._gigabyte_seconds * WATTS_PER_GB
            high_busy = self._cpu_total * max(HIGH_BUSY_WATTS_PER_VCPU, self._busy)
            return Quantity(
                low=self._cpu_total * min(BUSY_WATTS_PER_VCPU / 2, self._busy),
                central=busy_joules + idle_joules + memory,
                high=high_busy + 2 * idle_joules + 2 * memory,
                method="estimated",
            )

    def describe(self) -> Mapping[str, Any]:
        return {
            "cpu": f"estimated: {self._vcpus} vCPU, {IDLE_WATTS_PER_VCPU} to {self._busy} W each by CPU time",
            "memory": f"estimated: {WATTS_PER_GB} W per GB resident",
            "method": "estimated",
        }

    def close(self) -> None:
        return None


def _cpu_seconds() -> float:
    """CPU seconds of this process, to the nanosecond, and of its children that have ended, to the clock tick."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system
