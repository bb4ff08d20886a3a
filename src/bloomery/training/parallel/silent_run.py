"""The run of a follower: it knows its scratch folder, which is rank 0's, and records and says nothing.

What is written down (events, metrics, joules, artifacts) is rank 0's. This module does not know what a stage does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bloomery.core.run import NoMeter, Run


class SilentRun(Run):
    """Stands in where a stage's functions take a run. It cannot be entered, nor publish."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.meter = NoMeter()
        self.artifact = None
        self._started = time.perf_counter()
        self._energy_before = self.meter.read()
        self._stop = threading.Event()

    def event(self, kind: str, /, **data: Any) -> None:
        """Nothing."""

    def progress(self, done: float, total: float | None, *, unit: str, **live: float | str) -> None:
        """Nothing."""

    def metrics(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Nothing."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Nothing."""
        yield
