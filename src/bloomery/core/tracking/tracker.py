"""Tracker: listens to a workspace's runs and tells sinks their curves, metrics, energy and notes.

A run is begun at a sink when it first has something to show. A sink that fails is let go with one line on stderr: what
somebody looks at must not end what is being made. It hears events from several threads. This module does not know any
one sink.
"""

from __future__ import annotations

import importlib
import math
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from bloomery.core.errors import MissingExtraError
from bloomery.core.events import Event
from bloomery.core.tracking.config import TrackConfig

_PACKAGES = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases", "mlflow": "MLflow"}


class Sink(Protocol):
    """One run, as somebody else's program shows it."""

    def scalars(self, step: int, values: Mapping[str, float], time: float) -> None:
        """Numbers at a step; `time` in seconds since the epoch."""
        ...

    def text(self, step: int, text: str, time: float) -> None:
        """A line about the run."""
        ...

    def close(self, state: str) -> None:
        """The run has ended: "finished" or "failed"."""
        ...


Begin = Callable[[str, str, Mapping[str, Any]], Sink]
"""(run, stage, config) -> where that run is told."""


def open_trackers(config: TrackConfig, root: Path) -> list[Tracker]:
    """A listener for each sink that a config names; `root` is the workspace's folder.

    MissingExtraError with the pip line where the package of one is not installed.
    """
    folder = Path(config.folder) if config.folder else root / "tracking"
    trackers = []
    for name in dict.fromkeys(config.sinks):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtraError(name, name, f"tracking with {_PACKAGES[name]}") from error
        module = importlib.import_module(f"bloomery.core.tracking.{name}_sink")
        trackers.append(Tracker(name, module.begin(folder / name, config.project)))
    return trackers


class Tracker:
    """A listener for `Workspace(listeners=[...])`."""

    def __init__(self, name: str, begin: Begin) -> None:
        self.name, self._begin = name, begin
        self._lock = threading.Lock()
        self._started: dict[str, Event] = {}
        self._sinks: dict[str, Sink] = {}
        self._steps: dict[str, int] = {}
        self._lost = False

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._lost:
                return
            try:
                self._hear(event)
            except Exception as error:  # whatever somebody else's package may raise
                self._lost = True
                line = " ".join(f"{type(error).__name__}: {error}".split())
                print(f"warning: {self.name} is told no more: {line}", file=sys.stderr)

    def _hear(self, event: Event) -> None:
        run, data = event.run, event.data
        if event.kind == "start":
            self._started[run], self._steps[run] = event, 0
        elif event.kind == "curve":
            self._steps[run] = int(data["step"])
            names = ("loss", "smooth_loss", "gradient_norm", "rate", "tokens")
            self._tell(event, {name: float(data[name]) for name in names})
        elif event.kind == "metrics":
            if data.get("step") is not None:
                self._steps[run] = int(data["step"])
            self._tell(event, {k: float(v) for k, v in data.items() if k != "step"})
        elif event.kind == "heartbeat" and run in self._sinks:
            joules = data["energy_joules"]["central"]
            self._tell(event, {"seconds": data["seconds"], **({} if joules is None else {"energy_joules": joules})})
        elif event.kind == "note" and run in self._sinks:
            self._sinks[run].text(self._steps[run], str(data["text"]), event.time)
        elif event.kind == "end":
            self._started.pop(run, None)
            if sink := self._sinks.pop(run, None):
                sink.close(data["state"])

    def _tell(self, event: Event, values: Mapping[str, float]) -> None:
        run = event.run
        if run not in self._started:
            return
        if run not in self._sinks:
            self._sinks[run] = self._begin(run, event.stage, self._started[run].data.get("config", {}))
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._sinks[run].scalars(self._steps[run], finite, event.time)


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with the keys that a recipe's `--set` has."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
