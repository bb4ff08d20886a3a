"""An estimate of CPU and memory energy where no counter can be read, as on most virtual machines.

Watts of a virtual CPU between idle and busy, by utilisation, are those of the Cloud Carbon Footprint methodology
(averages over SPECpower results of the processors that large clouds run): 0.74 W idle and 3.5 W busy; memory is
0.392 W per GB (the same source, after Crucial and Micron). The utilisation is that of this process and its children
alone; memory is this process's resident memory. The bounds are our own choice, wide on purpose: low is busy time alone
at half of the published watts, central adds idle cores and memory as published, high takes 10 W for a busy core and
twice the rest.

What this module does not know: the processor's real power; three tools asked about one such machine have answered 0,
27 and 95 W. Where the system does not list a process's children (not Linux), they count when they have ended.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.core.quantity import Quantity

IDLE_WATTS_PER_VCPU = 0.74
BUSY_WATTS_PER_VCPU = 3.5
# A busy core of a small desktop or laptop processor: package power over cores of common parts.
HIGH_BUSY_WATTS_PER_VCPU = 10.0
WATTS_PER_GB = 0.392
_LOOK_FOR_CHILDREN_SECONDS = 1.0


class EstimateMeter:
    """Joules of this process by its CPU seconds and resident memory; method "estimated"."""

    def __init__(self, *, busy_watts_per_vcpu: float = BUSY_WATTS_PER_VCPU, others: Sequence[int] = ()) -> None:
        """`others` are processes that are not our children, but do our work."""
        import psutil

        self._others = tuple(others)

        self._process = psutil.Process()
        self._vcpus = (
            len(self._process.cpu_affinity()) if hasattr(self._process, "cpu_affinity") else psutil.cpu_count()
        )
        self._busy = busy_watts_per_vcpu
        self._lock = threading.Lock()
        self._children: list[int] = []
        self._wall = time.perf_counter()
        self._looked = self._wall - _LOOK_FOR_CHILDREN_SECONDS
        self._cpu_before = self._cpu_seconds(self._wall)
        self._gigabyte_seconds = 0.0
        self._cpu_total = 0.0
        self._wall_total = 0.0

    def read(self) -> Quantity:
        with self._lock:
            wall = time.perf_counter()
            elapsed = max(0.0, wall - self._wall)
            # The highest so far: a child that ends between two looks is missing for a moment.
            self._cpu_total = max(self._cpu_total, self._cpu_seconds(wall) - self._cpu_before)
            self._wall_total += elapsed
            self._gigabyte_seconds += elapsed * self._process.memory_info().rss / 1e9
            self._wall = wall
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

    def _cpu_seconds(self, wall: float) -> float:
        """CPU seconds of this process and its children; ended ones first, so that none is counted twice."""
        ended = os.times()
        seconds = time.process_time() + ended.children_user + ended.children_system
        if wall - self._looked >= _LOOK_FOR_CHILDREN_SECONDS:
            self._looked = wall
            self._children = list(_descendants(os.getpid()))
        return seconds + sum(_spent(pid) for pid in (*self._children, *self._others))


def _descendants(pid: int) -> Iterator[int]:
    """Living children of a process and theirs, as Linux lists them by thread; none where it does not."""
    try:
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return
    for child in " ".join(lists).split():
        yield int(child)
        yield from _descendants(int(child))


def _spent(pid: int) -> float:
    """CPU seconds of a child and of its own ended children (proc(5), stat fields 14 to 17); 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
