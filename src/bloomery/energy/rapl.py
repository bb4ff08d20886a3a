"""RAPL: energy counters of Intel and AMD processors, as Linux shows them under /sys/class/powercap.

Domains nest (a package holds its cores, uncore and sometimes memory), so summing all would count twice: packages are
summed, plus memory domains, which lie beside the cores and are not part of the package counter on servers; the
platform domain (psys) holds the packages and is read only where there is none. Counters wrap at
max_energy_range_uj, within a minute on a busy server, so a thread reads them more often than that.

Since CVE-2020-8694 the files are readable by root only on most kernels: that is reported, never silently passed.
Source: Linux kernel, Documentation/power/powercap.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.quantity import Quantity

POWERCAP = Path("/sys/class/powercap")
PERMIT = "sudo chmod -R a+r /sys/class/powercap/intel-rapl*"

_WATCH_SECONDS = 5.0


@dataclass
class _Domain:
    name: str
    path: Path
    wrap_microjoules: int
    last: int
    total: int = 0


@dataclass(frozen=True)
class RaplFound:
    """`domains` that can be read (name and folder), and `problem` in words if some or all cannot."""

    domains: tuple[tuple[str, Path], ...]
    problem: str


def find_rapl(root: Path = POWERCAP) -> RaplFound:
    """The packages and memory domains under a powercap folder that can be read."""
    zones = sorted(p for p in root.glob("*-rapl:*") if p.is_dir()) if root.is_dir() else []
    if not zones:
        return RaplFound((), "no RAPL on this machine (common in virtual machines)")
    found, platform, unreadable, unreadable_platform = [], [], [], []
    for zone in zones:
        name = ""
        try:
            name = (zone / "name").read_text().strip()
            if not (name.startswith("package") or name in ("dram", "psys")):
                continue
            int((zone / "energy_uj").read_text())
            int((zone / "max_energy_range_uj").read_text())
            (platform if name == "psys" else found).append((f"{zone.name} {name}", zone))
        except (OSError, ValueError):
            (unreadable_platform if name == "psys" else unreadable).append(zone.name)
    if not found:
        unreadable += unreadable_platform  # needed only where no package can be read
    if unreadable:
        # A sum that lacks a part would look like less energy: all of the domains or none.
        return RaplFound((), f"cannot read {', '.join(unreadable)}, so the CPU is estimated; to permit: {PERMIT}")
    found = found if any(" package" in name for name, _ in found) else platform
    return RaplFound(tuple(found), "" if found else "RAPL has no package domain")


class RaplMeter:
    """Joules of the processors' packages and memory since opening; method "counter".

    The whole machine's, not this process's alone: other programs that run meanwhile are counted too.
    """

    def __init__(self, found: RaplFound) -> None:
        self._lock = threading.Lock()
        self._broken = False
        self._domains = [
            _Domain(name, path, int((path / "max_energy_range_uj").read_text()), _microjoules(path))
            for name, path in found.domains
        ]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rapl-wraps", daemon=True)
        self._thread.start()

    def read(self) -> Quantity:
        """Unknown for good once a counter has vanished: a sum that lacks a part would look like less energy."""
        with self._lock:
            if self._broken:
                return Quantity.unknown()
            try:
                for domain in self._domains:
                    value = _microjoules(domain.path)
                    step = value - domain.last
                    domain.total += step if step >= 0 else step + domain.wrap_microjoules
                    domain.last = value
            except (OSError, ValueError):
                self._broken = True
                return Quantity.unknown()
            return Quantity.exact(sum(d.total for d in self._domains) / 1e6, "counter")

    def describe(self) -> Mapping[str, Any]:
        names = [domain.name for domain in self._domains]
        covered = any(name.endswith((" dram", " psys")) for name in names)
        memory = "in the RAPL domains above" if covered else "not metered: this processor shows no memory domain"
        return {"cpu": "RAPL: " + ", ".join(names), "memory": memory, "method": "counter"}

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_WATCH_SECONDS):
            self.read()


def _microjoules(path: Path) -> int:
    return int((path / "energy_uj").read_text())
