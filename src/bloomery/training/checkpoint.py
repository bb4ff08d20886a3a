"""Checkpoints: a folder that is there whole or not at all, with everything that a run needs to go on exactly.

    checkpoints/step-00001234/
        model.safetensors        parameters
        optimizer.safetensors    optimiser state by parameter name
        state.json               step, data position, packing buffer, random states, curves, hashes of all that

Of several ranks each writes what it alone has, or has first, into files of its own (model-00000.safetensors, ...);
whoever reads them, and however many there are by then, has whole tensors by name (see `pieces`). Written beside its
place, flushed, renamed. The newest sound checkpoint wins; a damaged one is passed over and said so. A run that went
back writes `step-00001234-again-01`: newer than anything before, whatever its step. No pickle. This module does not
know what the state means, nor who the writers are.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from bloomery.core.artifact import FULL, disk_errors, fsync, sha256_file
from bloomery.core.errors import ArtifactError
from bloomery.training.pieces import Piece, Stored, own_share, write_pieces

_MODEL, _OPTIMIZER, _STATE = "model", "optimizer", "state"
_TENSOR_FILE = re.compile(r"(model|optimizer)(-\d{5,})?\.safetensors")
_DAMAGED = (OSError, ValueError, KeyError, TypeError)
"""What reading a file raises that is not what was written."""
_ONE_FILE_SYSTEM = "ranks need one file system"
_KEEP = 2
_NAME = re.compile(r"step-(\d+)(?:-again-(\d+))?")


@dataclass(frozen=True)
class Checkpoint:
    """What is there: whole tensors on the CPU, read when they are asked for, though it be removed by then; the state as
    plain data."""

    step: int
    path: Path
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: dict[str, Any]


class Writers(Protocol):
    """The processes that write one checkpoint together; `everyone` gives JSON data of each of them to all."""

    rank: int

    def everyone(self, own: Any) -> list[Any]: ...


class _Alone:
    rank = 0

    def everyone(self, own: Any) -> list[Any]:
        return [own]


def name_of(step: int, again: int = 0) -> str:
    """The folder's name; `again` counts how often the run went back."""
    return f"step-{step:08d}" + (f"-again-{again:02d}" if again else "")


def step_of(name: str) -> int:
    """The step in a name that `name_of` gave."""
    match = _NAME.fullmatch(name)
    assert match is not None, name
    return int(match[1])


def save(
    folder: Path,
    step: int,
    *,
    model: Mapping[str, Tensor | Piece],
    optimizer: Mapping[str, Tensor | Piece],
    state: Mapping[str, Any],
    again: int = 0,
    keep: int = _KEEP,
    spared: Collection[str] = (),
    writers: Writers | None = None,
) -> Path:
    """Write `folder/step-<step>` atomically and drop all but the newest `keep` and those whose names are `spared`.

    Several `writers` call it together, each with what it has of the tensors; rank 0's state is the one that counts.
    Raises ArtifactError on all of them if one cannot; what was there before is then as it was.
    """
    writers = writers or _Alone()
    target = folder / name_of(step, again)
    partial = folder / f".partial-{target.name}"
    leads = writers.rank == 0
    try:
        several = len(_together(writers, lambda: _emptied(partial) if leads else None)) > 1
        tensors = {_MODEL: model, _OPTIMIZER: optimizer}
        shares = {kind: own_share(having, writers.rank, writers.everyone) for kind, having in tensors.items()}
        named = {
            f"{kind}-{writers.rank:05d}.safetensors" if several else f"{kind}.safetensors": share
            for kind, share in shares.items()
            if leads or share
        }
        written = _together(writers, lambda: _tensors_written(partial, named))
        hashes = {name: digest for one in written for name, digest in one.items()}
        _together(writers, lambda: _put_in_place(target, partial, step, state, hashes) if leads else None)
    except BaseException:
        if leads:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in _steps(folder)[:-keep] if leads else ():
        if old.name not in spared and old != target:  # a damaged one may bear a later step
            shutil.rmtree(old, ignore_errors=True)
    return target


def _together(writers: Writers, act: Callable[[], Any]) -> list[Any]:
    """What each writer's act gave. Where one fails all do, for the same reason: a full disk counts least, which does
    not end a run."""
    own: Exception | None = None
    result = failure = None
    try:
        with disk_errors("cannot write a checkpoint; the last good one is kept"):
            result = act()
    except Exception as error:  # whatever it is, the others wait to hear of it
        own, text, hint = error, str(error), ""
        if isinstance(error, ArtifactError):
            text, hint = error.message, error.hint
        failure = [getattr(error.__cause__, "errno", None) or 0, text, hint]
    told = writers.everyone([result, failure])
    failures = [(rank, *failed) for rank, (_, failed) in enumerate(told) if failed is not None]
    if failures:
        rank, number, text, hint = min(failures, key=lambda failed: failed[1] in FULL)
        if own is not None and rank == writers.rank:
            raise own
        raise ArtifactError(f"rank {rank}: {text}", hint=hint) from OSError(number, text)
    return [result for result, _ in told]


def _emptied(partial: Path) -> None:
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)


def _tensors_written(partial: Path, named: Mapping[str, Mapping[str, Tensor | Piece]]) -> dict[str, str]:
    """SHA-256 of each file."""
    if not partial.is_dir():
        raise ArtifactError(f"{partial} is not there, where rank 0 has made it", hint=_ONE_FILE_SYSTEM)
    hashes = {}
    for name, share in named.items():
        write_pieces(share, partial / name)
        hashes[name] = sha256_file(partial / name)
    return hashes


def _put_in_place(target: Path, partial: Path, step: int, state: Mapping[str, Any], hashes: dict[str, str]) -> None:
    if missing := [name for name in hashes if not (partial / name).is_file()]:
        raise ArtifactError(f"{partial / missing[0]} is not here, where a rank has written it", hint=_ONE_FILE_SYSTEM)
    document = {"step": step, "sha256": {**hashes, _STATE: _digest(step, state)}, "state": dict(state)}
    (partial / "state.json").write_text(json.dumps(document), encoding="utf-8")
    fsync(partial / "state.json")
    fsync(partial)
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
    fsync(target.parent)


def sweep(folder: Path) -> None:
    """Remove what a writer that was killed left half-written. The caller holds the folder's lock."""
    for path in folder.glob(".partial-*"):
        shutil.rmtree(path, ignore_errors=True)


def latest(folder: Path, *, warn: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
    """The newest sound checkpoint in a folder, or None. `warn` hears of each damaged one that was passed over."""
    for path in reversed(_steps(folder)):
        try:
            return _load(path)
        except _DAMAGED as error:
            warn(f"checkpoint {path.name} is damaged and was passed over: {error}")
    return None


def keep_one(folder: Path) -> None:
    """Remove all but the newest sound checkpoint, where there is one."""
    found = latest(folder)
    for path in _steps(folder) if found is not None else ():
        if found is not None and path != found.path:
            shutil.rmtree(path, ignore_errors=True)


def load(path: Path) -> Checkpoint | None:
    """One checkpoint; None if it is gone or damaged."""
    try:
        return _load(path)
    except _DAMAGED:
        return None


def states(folder: Path) -> Iterator[dict[str, Any]]:
    """The state of every checkpoint in a folder whose state can be read; tensors are not looked at."""
    for path in _steps(folder):
        try:
            yield json.loads((path / "state.json").read_text(encoding="utf-8"))["state"]
        except _DAMAGED:
            continue


def _load(path: Path) -> Checkpoint:
    document = json.loads((path / "state.json").read_text(encoding="utf-8"))
    files: dict[str, list[Path]] = {_MODEL: [], _OPTIMIZER: []}
    hashes = dict(document["sha256"])
    for name, digest in hashes.items():
        if (match := _TENSOR_FILE.fullmatch(name)) is None:
            continue
        if sha256_file(path / name) != digest:
            raise ValueError(f"{name} differs from its recorded SHA-256")
        files[match[1]].append(path / name)
    if not all(files.values()):
        raise ValueError("state.json names no file of tensors")
    if hashes.get(_STATE, "") not in ("", _digest(document["step"], document["state"])):
        raise ValueError("state.json differs from its recorded SHA-256")
    model, optimizer = (Stored(files[kind]) for kind in (_MODEL, _OPTIMIZER))
    return Checkpoint(step=int(document["step"]), path=path, model=model, optimizer=optimizer, state=document["state"])


def _digest(step: int, state: Mapping[str, Any]) -> str:
    """SHA-256 of a step and its state: the same before they were written and after they are read."""
    return hashlib.sha256(json.dumps([step, dict(state)]).encode()).hexdigest()


def _steps(folder: Path) -> list[Path]:
    """Oldest first: by how often the run had gone back, then by step."""
    found = [(match, p) for p in folder.glob("step-*") if (match := _NAME.fullmatch(p.name)) and p.is_dir()]
    return [path for _, path in sorted(((int(m[2] or 0), int(m[1])), path) for m, path in found)]
