"""Workspace: the folder that holds a user's artifacts, runs and ledger, and who listens to its runs.

    <root>/ledger.sqlite      what happened
    <root>/artifacts/         published, immutable
    <root>/runs/<id>/         events.jsonl of each run
    <root>/scratch/<key>/     half-done, resumable work of a stage, kept until its artifact is published

The root is `--home`, or $BLOOMERY_HOME, or `.bloomery` in the current folder. This module does not know stages.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from bloomery.core.artifact import Artifact, as_artifact_error
from bloomery.core.errors import ArtifactError
from bloomery.core.events import Listener, read_events
from bloomery.core.ledger import Ledger
from bloomery.core.locks import FileLock
from bloomery.core.quantity import Quantity

HOME_VARIABLE = "BLOOMERY_HOME"
DEFAULT_HOME = ".bloomery"
LATEST, _USUAL = "latest", "model"
"""What stands for the newest artifact of a kind, and the kind where none is asked for."""
_DIED = "the process ended without a word (killed, or the machine stopped)"


def scratch_name(stage: str, key: str) -> str:
    """What a stage's scratch folder is called."""
    return f"{stage}-{key[:16]}"


def scratch_lock(folder: Path) -> FileLock:
    """The lock that who works in a scratch folder holds."""
    return FileLock(folder.with_name(folder.name + ".lock"))


class Workspace:
    """One root folder. Opening it creates the ledger and marks runs whose process has died as failed."""

    def __init__(self, root: str | Path | None = None, *, listeners: Sequence[Listener] = ()) -> None:
        self.root = Path(root or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()
        self.listeners: tuple[Listener, ...] = tuple(listeners)
        self.artifacts = self.root / "artifacts"
        self.runs = self.root / "runs"
        self.scratch = self.root / "scratch"
        try:
            for folder in (self.artifacts, self.runs, self.scratch):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise as_artifact_error(error, f"cannot use {self.root}") from error

    @cached_property
    def ledger(self) -> Ledger:
        ledger = Ledger(self.root / "ledger.sqlite")
        if not ledger.read_only:
            self._bury_the_dead(ledger)
        return ledger

    def close_ledger(self) -> None:
        """Let go of the ledger's file; who next asks for the ledger opens it again, and marks the dead."""
        if "ledger" in self.__dict__:
            self.__dict__.pop("ledger").close()

    def scratch_of(self, stage: str, key: str) -> Path:
        """The folder in which a stage with this key (see `StageInputs`) keeps what is half done."""
        return self.scratch / scratch_name(stage, key)

    def find(self, reference: str | Path, *, kind: str | None = None, verify: bool = True) -> Artifact:
        """An artifact by folder, by name (`model-0123456789ab`), by id or unique id prefix (4 digits or more), or the
        newest of the kind: "latest"; where no kind is asked for, of models."""
        path = Path(reference)
        if _holds_manifest(path):
            return Artifact.open(path, kind=kind, verify=verify)
        matches = self.matching(str(reference), kind=kind)
        if len(matches) > 1:
            names = ", ".join(m.name for m in matches[:4])
            raise ArtifactError(f"{str(reference)!r} fits several artifacts: {names}", hint="give more digits")
        if not matches:
            if str(reference) == LATEST:
                raise self._none_yet(kind or _USUAL)
            raise ArtifactError(f"no {kind or 'artifact'} {str(reference)!r} in {self.root}", hint="bloomery runs")
        return Artifact.open(matches[0], kind=kind, verify=verify)

    def matching(self, reference: str, *, kind: str | None = None) -> list[Path]:
        """Folders of artifacts whose name, or whose id from its start, is `reference`; "latest" as `find` has it."""
        if reference == LATEST:
            newest = self._newest(kind or _USUAL)
            return [] if newest is None else [newest]
        digits = reference.rsplit("-", 1)[-1]
        if len(digits) < 4 or not all(c in "0123456789abcdef" for c in digits):
            return []
        wanted = reference[: -len(digits)].rstrip("-") or kind
        found = []
        for path in sorted(self.artifacts.iterdir()):
            name, _, start = path.name.rpartition("-")
            # What publishing set aside as damaged has a process number at its end and is nobody's answer.
            if path.name.startswith("damaged-") or (wanted and name != wanted) or not start.startswith(digits[:12]):
                continue
            if _holds_manifest(path):
                found.append(path)
        return found

    def published(self, identity: str) -> Artifact | None:
        """The artifact of this full id if it is on disk and sound, else None."""
        for path in self.matching(identity):
            try:
                artifact = Artifact.open(path)
            except ArtifactError:
                continue
            if artifact.id == identity:
                return artifact
        return None

    def latest(self, kind: str, *others: str, verify: bool = True) -> Artifact:
        """The newest artifact of a kind, or of any of several, that is still on disk; ArtifactError with a hint if
        there is none. `verify` as of `Artifact.open`."""
        newest = self._newest(kind, *others)
        if newest is None:
            raise self._none_yet(kind)
        return Artifact.open(newest, verify=verify)

    def _newest(self, *kinds: str) -> Path | None:
        for row in self.ledger.artifacts(kind=kinds[0] if len(kinds) == 1 else None):
            if row["kind"] in kinds:
                for path in self.matching(row["id"], kind=row["kind"]):
                    return path
        return None

    def _none_yet(self, kind: str) -> ArtifactError:
        hint = {"model": "bloomery demo, or bloomery pretrain", "corpus": "bloomery curate PATHS"}.get(kind, "")
        return ArtifactError(f"no {kind} in {self.root} yet", hint=hint)

    def lineage(self, artifact: Artifact) -> list[tuple[int, str, Artifact | None]]:
        """(depth, id, artifact or None if it is gone) from the artifact up through all its parents, each once."""
        seen: set[str] = set()
        rows: list[tuple[int, str, Artifact | None]] = []

        def visit(identity: str, found: Artifact | None, depth: int) -> None:
            if identity in seen:
                return
            seen.add(identity)
            rows.append((depth, identity, found))
            for parent in found.parents if found else self.ledger.parents(identity):
                paths = self.matching(parent)
                visit(parent, Artifact.open(paths[0], verify=False) if paths else None, depth + 1)

        visit(artifact.id, artifact, 0)
        return rows

    def remove(self, path: Path) -> int:
        """Remove a folder inside this workspace; returns the bytes freed."""
        if self.root.resolve() not in path.resolve().parents:
            raise ArtifactError(f"{path} is not in {self.root}")
        size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
        shutil.rmtree(path)
        return size

    def _bury_the_dead(self, ledger: Ledger) -> None:
        for run in ledger.unfinished():
            folder = self.runs / run["id"]
            lock = FileLock(folder / "lock")
            if folder.is_dir() and not lock.try_acquire():
                continue  # alive: its process holds the lock
            seconds, energy = last_heartbeat(folder / "events.jsonl")
            made = self._published_by(run["id"])
            if made is not None:  # it died between publishing and saying so: nothing was lost
                ledger.end_run(run["id"], state="finished", seconds=seconds, energy_joules=energy, artifact=made)
            else:
                ledger.end_run(run["id"], state="failed", seconds=seconds, energy_joules=energy, error=_DIED)
            lock.release()

    def _published_by(self, run: str) -> Artifact | None:
        """The sound artifact whose manifest names this run."""
        for path in self.artifacts.glob("*/manifest.json"):
            try:
                found = Artifact.open(path.parent, verify=False)
            except ArtifactError:
                continue
            if found.manifest.get("run") == run:
                return found
        return None


def _holds_manifest(path: Path) -> bool:
    try:
        return (path / "manifest.json").is_file()
    except (OSError, ValueError):
        return False  # a reference too long, or with a NUL, to be a path


def last_heartbeat(path: Path) -> tuple[float, Quantity]:
    """Seconds and joules that a run had used at the last sign of life in its event log."""
    seconds, energy = 0.0, Quantity.unknown()
    if path.is_file():
        for event in read_events(path):
            if not isinstance(event, dict) or event.get("kind") != "heartbeat":
                continue
            try:
                seconds, energy = float(event["seconds"]), Quantity.from_dict(event["energy_joules"])
            except (KeyError, TypeError, ValueError):
                continue  # a line that a crash garbled: the one before it counts
    return seconds, energy


def as_workspace(workspace: Workspace | str | Path | None) -> Workspace:
    """The workspace itself, or one opened at the given path, or the default one for None."""
    return workspace if isinstance(workspace, Workspace) else Workspace(workspace)
