"""NVML: energy of NVIDIA GPUs, by their counter where they have one, else by power sampled in a thread.

Sampled power reads short bursts badly (an A100's sensor looks at a quarter of the time), so such a value carries
bounds of a quarter. The whole card's energy, not this process's alone. This module does not know other makers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from bloomery.core.quantity import Quantity

_SAMPLE_SECONDS = 0.1
_SAMPLED_UNCERTAINTY = 0.25


class Gpu(Protocol):
    """What is asked of one card. Both may raise an exception when the card cannot answer."""

    name: str

    def energy_millijoules(self) -> int:
        """Counter since the driver was loaded."""
        ...

    def power_milliwatts(self) -> int: ...


class NvmlGpu:
    """One card through the nvidia-ml-py bindings."""

    def __init__(self, handle: Any) -> None:
        import pynvml

        self._nvml, self._handle = pynvml, handle
        self.name = str(pynvml.nvmlDeviceGetName(handle))

    def energy_millijoules(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def power_milliwatts(self) -> int:
        return int(self._nvml.nvmlDeviceGetPowerUsage(self._handle))


def find_gpus(pids: Collection[int] | None = None) -> tuple[list[Gpu], str]:
    """The cards of this machine, or those that one of these processes computes on, and the reason in words if there is
    none. In a container NVML may know processes by other numbers: then none is found."""
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
        if pids is not None:
            computing = pynvml.nvmlDeviceGetComputeRunningProcesses
            handles = [handle for handle in handles if any(one.pid in pids for one in computing(handle))]
        gpus: list[Gpu] = [NvmlGpu(handle) for handle in handles]
    except Exception as error:
        return [], f"no NVIDIA GPU: {error}"
    return gpus, "" if gpus else "no NVIDIA GPU" if pids is None else "the process computes on no NVIDIA GPU"


class NvmlMeter:
    """Joules of all cards since opening: "counter", or "sampled" if one of them has no counter."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._lock = threading.Lock()
        self._counted: list[tuple[Gpu, int]] = []
        self._sampled: list[Gpu] = []
        self._silent: list[Gpu] = []
        for gpu in gpus:
            self._sort(gpu)
        self._broken = bool(self._silent)
        self._joules, self._watts = 0.0, 0.0
        self._stop = threading.Event()
        self._measure()  # so that a read before the first sample is not zero
        self._last = time.perf_counter()
        self._thread = threading.Thread(target=self._sample, name="gpu-power", daemon=True) if self._sampled else None
        if self._thread:
            self._thread.start()

    def _sort(self, gpu: Gpu) -> None:
        try:
            self._counted.append((gpu, gpu.energy_millijoules()))
        except Exception:
            try:
                gpu.power_milliwatts()
                self._sampled.append(gpu)
            except Exception:
                self._silent.append(gpu)

    def read(self) -> Quantity:
        """Unknown for good once a card cannot be read: a sum that lacks a part would look like less energy."""
        with self._lock:
            counted = 0.0
            try:
                counted = sum(gpu.energy_millijoules() - start for gpu, start in self._counted) / 1e3
            except Exception:
                self._broken = True
            if self._broken:
                return Quantity.unknown()
            if not self._sampled:
                return Quantity.exact(max(0.0, counted), "counter")
            self._integrate()
            low, high = 1 - _SAMPLED_UNCERTAINTY, 1 + _SAMPLED_UNCERTAINTY
            sampled = Quantity(low=self._joules * low, central=self._joules, high=self._joules * high, method="sampled")
            return sampled + Quantity.exact(max(0.0, counted), "counter")

    def describe(self) -> Mapping[str, Any]:
        names = [f"{gpu.name} (counter)" for gpu, _ in self._counted]
        names += [f"{gpu.name} (power every {_SAMPLE_SECONDS} s)" for gpu in self._sampled]
        names += [f"{gpu.name} (shows neither energy nor power, so the sum is unknown)" for gpu in self._silent]
        return {"gpu": "NVML: " + ", ".join(names), "method": "sampled" if self._sampled else "counter"}

    def close(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()
        with self._lock:
            self._integrate()
            self._watts = 0.0

    def _integrate(self) -> None:
        now = time.perf_counter()
        self._joules += self._watts * (now - self._last)
        self._last = now

    def _measure(self) -> None:
        try:
            self._watts = sum(gpu.power_milliwatts() for gpu in self._sampled) / 1e3
        except Exception:
            self._broken = True

    def _sample(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            with self._lock:
                self._integrate()
                self._measure()
                if self._broken:
                    return
