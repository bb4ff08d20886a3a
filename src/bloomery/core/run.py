"""Run: one attempt at one stage, metered, recorded, and publishing at most one artifact.

    with Run(workspace, inputs, meter=meter) as run:
        with run.phase("train"):
            run.progress(done, total, unit="tokens", loss=loss)
        artifact = run.publish(folder, kind="model", metrics={...})

Whatever ends the block, the ledger gets the time and the energy used; an exception leaves no half artifact but
keeps `run.scratch`, where the stage may find its checkpoints next time. This module does not know what a stage
does, nor how joules are read (a Meter is handed to it).
"""

from __future__ import annotations

import math
import os
import platform
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from bloomery.core.artifact import Artifact, as_artifact_error, disk_errors, publish
from bloomery.core.database import is_full
from bloomery.core.errors import ArtifactError, BloomeryError, InUseError
from bloomery.core.events import INTERRUPTED, Event, EventLog, now
from bloomery.core.locks import FileLock
from bloomery.core.quantity import Quantity
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace, scratch_lock

_HEARTBEAT_SECONDS = 1.0
_RECORDED_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "pyarrow", "zstandard")


class Meter(Protocol):
    """Reads energy. Safe to call from several threads."""

    def read(self) -> Quantity:
        """Joules used since this meter was opened; never decreases."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """What is metered and how, as JSON data for the run's record."""
        ...

    def close(self) -> None: ...


class NoMeter:
    """The meter of a run that nobody metered: its energy is unknown, not zero."""

    def read(self) -> Quantity:
        return Quantity.unknown()

    def describe(self) -> Mapping[str, Any]:
        return {"method": "unknown"}

    def close(self) -> None:
        return None


class Run:
    """See the module. Enter it once. `scratch` is this stage key's own, locked while the run is open."""

    def __init__(self, workspace: Workspace, inputs: StageInputs, *, meter: Meter | None = None) -> None:
        self.workspace = workspace
        self.inputs = inputs
        self.stage = inputs.stage
        self.id = f"{time.strftime('%Y%m%d-%H%M%S')}-{inputs.stage}-{secrets.token_hex(3)}"
        self.folder = workspace.runs / self.id
        self.scratch = workspace.scratch_of(inputs.stage, inputs.key)
        self.meter: Meter = meter or NoMeter()
        self.artifact: Artifact | None = None
        self._phases: list[tuple[str, float, Quantity]] = []
        self._phase = ""
        self._said_full = False
        self._stop = threading.Event()

    def __enter__(self) -> Run:
        self._lock = FileLock(self.folder / "lock")
        self._scratch_lock = scratch_lock(self.scratch)
        try:
            if not self._scratch_lock.try_acquire():
                raise InUseError(
                    f"another process is running this very {self.stage} stage", hint="wait for it, or stop it first"
                )
            self._begin()
        except BaseException as error:
            if hasattr(self, "_log"):
                self._log.close()
            self.meter.close()
            self._lock.release()
            self._scratch_lock.release()
            if isinstance(error, OSError):
                raise as_artifact_error(error, f"cannot begin the {self.stage} stage") from error
            raise
        return self

    def _begin(self) -> None:
        self.folder.mkdir(parents=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._lock.try_acquire()
        self._log = EventLog(self.folder / "events.jsonl")
        self._started = time.perf_counter()
        self._energy_before = self.meter.read()
        self.workspace.ledger.start_run(
            self.id,
            stage=self.stage,
            key=self.inputs.key,
            config=self.inputs.config,
            parents=self.inputs.parents,
            seed=self.inputs.seed,
            versions=code_versions(),
            meters=self.meter.describe(),
        )
        self.event("start", config=dict(self.inputs.config), parents=list(self.inputs.parents), seed=self.inputs.seed)
        self._say_alive()
        self._heart = threading.Thread(target=self._beat, name=f"heartbeat-{self.stage}", daemon=True)
        self._heart.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._heart.join()
        state = "finished" if error is None else "failed"
        text = "" if error is None else _describe(error)  # an interrupted run has failed, too: its cost is counted
        try:
            self.event("end", state=state, error=text, seconds=self.seconds, energy_joules=self.energy_joules.to_dict())
            self.workspace.ledger.end_run(
                self.id,
                state=state,
                seconds=self.seconds,
                energy_joules=self.energy_joules,
                error=text,
                artifact=self.artifact,
                phases=self._phases,
            )
        except (OSError, BloomeryError) as problem:
            if error is None:
                raise
            # The first error matters more; the next command that opens the workspace records this run's end.
            print(f"warning: the end of run {self.id} could not be recorded: {problem}", file=sys.stderr)
        else:
            # Only now: if the ledger does not know the artifact, the checkpoints are what the next run has.
            if state == "finished":
                shutil.rmtree(self.scratch, ignore_errors=True)
        finally:
            self._close()
        if isinstance(error, OSError):
            raise as_artifact_error(error, f"the {self.stage} stage stopped") from error

    def _close(self) -> None:
        try:
            self._log.close()
        finally:
            self.meter.close()
            self._lock.release()
            self._scratch_lock.release()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the run began."""
        return time.perf_counter() - self._started

    @property
    def energy_joules(self) -> Quantity:
        """Joules since the run began."""
        return self.meter.read() - self._energy_before

    def event(self, kind: str, /, **data: Any) -> None:
        """Record an event and tell the listeners. A full disk, said once, does not end the run: what it makes may fit
        by the time that it is written."""
        event = Event(kind=kind, run=self.id, stage=self.stage, data=data, time=now())
        if not self._log.append(event) and not self._said_full:
            self._said_full = True
            self.note(f"no room for what happens in {self.folder / 'events.jsonl'}: free some space meanwhile")
        for listener in self.workspace.listeners:
            listener(event)

    def note(self, text: str) -> None:
        """Something the user should know: a fallback that was taken, documents that were skipped."""
        self.event("note", text=text)

    def progress(self, done: float, total: float | None, *, unit: str, **live: float | str) -> None:
        """Tell the listeners how far the work is; not recorded. `live` holds values to show, such as loss."""
        data = {"done": done, "total": total, "unit": unit, "phase": self._phase, "live": live}
        event = Event(kind="progress", run=self.id, stage=self.stage, data=data, time=now())
        for listener in self.workspace.listeners:
            listener(event)

    def metrics(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Record named numbers in the ledger and as an event; a number that is not finite is noted, not recorded."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for name in values.keys() - finite.keys():
            self.note(f"{name} is {values[name]}, which cannot be recorded")
        try:
            self.workspace.ledger.add_metrics(self.id, finite, step=step)
        except ArtifactError as error:
            if not is_full(error.__cause__):
                raise
            self.note("no room for metrics in the ledger: free some space meanwhile")
        self.event("metrics", step=step, **finite)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time and meter a named part of the run; phases do not nest."""
        started, before, self._phase = time.perf_counter(), self.meter.read(), name
        self.event("phase", name=name)
        try:
            yield
        finally:
            self._phases.append((name, time.perf_counter() - started, self.meter.read() - before))
            self._phase = ""

    def publish(self, folder: Path, *, kind: str, metrics: Mapping[str, Any] | None = None) -> Artifact:
        """Publish a finished folder (inside `scratch`) as this run's one artifact.

        Its manifest's energy is that of this run and of every failed attempt at the same stage key before it.
        """
        if self.artifact is not None:
            raise ArtifactError(f"run {self.id} has already published {self.artifact.name}")
        attempts: list[dict[str, Any]] = []
        for attempt in self.workspace.ledger.attempts(self.inputs.key):
            # What was paid before an earlier finished run is in that run's artifact.
            attempts = [] if attempt["state"] == "finished" else [*attempts, attempt]
        attempts = [attempt for attempt in attempts if attempt["state"] == "failed"]
        energy, seconds = self.energy_joules, self.seconds
        for attempt in attempts:
            energy = energy + Quantity.from_dict(attempt["energy_joules"])
            seconds += attempt["seconds"] or 0.0
        self.artifact = publish(
            folder,
            self.workspace.artifacts,
            kind=kind,
            parents=self.inputs.parents,
            config=self.inputs.config,
            provenance={
                "stage": self.stage,
                "run": self.id,
                "created": now(),
                "seed": self.inputs.seed,
                "seconds": seconds,
                "failed_attempts": len(attempts),
                "code": code_versions(),
            },
            metrics=metrics or {},
            energy_joules=energy,
        )
        if (maker := self.artifact.manifest.get("run")) != self.id:
            self.note(f"{self.artifact.name} was there already, to the bit: what it says of itself is run {maker}'s")
        self.event("artifact", id=self.artifact.id, name=self.artifact.name)
        return self.artifact

    def new_folder(self, name: str = "output") -> Path:
        """An empty folder in scratch to write the artifact into; what an earlier attempt left there is removed."""
        folder = self.scratch / name
        with disk_errors("cannot prepare the output folder"):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        return folder

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT_SECONDS):
            try:
                self._say_alive()
            except OSError:
                return  # the disk is broken: the stage's own writes will say so

    def _say_alive(self) -> None:
        self.event("heartbeat", seconds=self.seconds, energy_joules=self.energy_joules.to_dict())


def _describe(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    # A file name that is not UTF-8 carries lone surrogates, which SQLite refuses.
    return f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()


@lru_cache(maxsize=1)
def code_versions() -> dict[str, Any]:
    """Versions of bloomery, Python, the packages that shape results, and the git revision of the source."""
    versions: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("bloomery", *_RECORDED_PACKAGES):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "unknown"
    versions["git"] = _git_revision()
    return versions


def _git_revision() -> str:
    """The revision of the source tree, `-dirty` if it was changed; "none" for an installed package."""
    source = Path(__file__).resolve().parents[3]
    if not (source / ".git").exists():
        return "none"
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=dict(os.environ))
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
