"""Checkpoints: a folder that is there whole or not at all, with everything that a run needs to go on exactly.

    checkpoints/step-00001234/
        model.safetensors        parameters
        optimizer.safetensors    optimiser state by parameter name
        state.json               step, data position, packing buffer, random states, curves, hashes of all that

Written beside its place, flushed, renamed. The newest sound checkpoint wins; a damaged one is passed over and
said so. A run that went back writes `step-00001234-again-01`: newer than anything before, whatever its step. No pickle.
This module does not know what the state means.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bloomery.core.artifact import disk_errors, fsync, sha256_file
from bloomery.models.weights import write_tensors

_TENSOR_FILES = ("model.safetensors", "optimizer.safetensors")
_STATE = "state"
_DAMAGED = (OSError, ValueError, KeyError, TypeError)
"""What reading a file raises that is not what was written."""
_KEEP = 2
_NAME = re.compile(r"step-(\d+)(?:-again-(\d+))?")


@dataclass(frozen=True)
class Checkpoint:
    """What was read: tensors on the CPU and the state as plain data."""

    step: int
    path: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


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
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    state: Mapping[str, Any],
    again: int = 0,
    keep: int = _KEEP,
    spared: Collection[str] = (),
) -> Path:
    """Write `folder/step-<step>` atomically and drop all but the newest `keep` and those whose names are `spared`.

    Raises ArtifactError if it cannot; what was there before is then as it was.
    """
    target = folder / name_of(step, again)
    partial = folder / f".partial-{target.name}"
    try:
        with disk_errors("cannot write a checkpoint; the last good one is kept"):
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir(parents=True)
            for name, tensors in zip(_TENSOR_FILES, (model, optimizer), strict=True):
                contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
                write_tensors(contiguous, partial / name)
            hashes = {name: sha256_file(partial / name) for name in _TENSOR_FILES}
            hashes[_STATE] = _digest(step, state)
            document = {"step": step, "sha256": hashes, "state": dict(state)}
            (partial / "state.json").write_text(json.dumps(document), encoding="utf-8")
            fsync(partial / "state.json")
            fsync(partial)
            if target.exists():
                shutil.rmtree(target)
            partial.rename(target)
            fsync(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in _steps(folder)[:-keep]:
        if old.name not in spared and old != target:  # a damaged one may bear a later step
            shutil.rmtree(old, ignore_errors=True)
    return target


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
    from safetensors.torch import load_file

    document = json.loads((path / "state.json").read_text(encoding="utf-8"))
    for name in _TENSOR_FILES:
        if sha256_file(path / name) != document["sha256"][name]:
            raise ValueError(f"{name} differs from its recorded SHA-256")
    if document["sha256"].get(_STATE, "") not in ("", _digest(document["step"], document["state"])):
        raise ValueError("state.json differs from its recorded SHA-256")
    model, optimizer = (load_file(path / name) for name in _TENSOR_FILES)
    return Checkpoint(step=int(document["step"]), path=path, model=model, optimizer=optimizer, state=document["state"])


def _digest(step: int, state: Mapping[str, Any]) -> str:
    """SHA-256 of a step and its state: the same before they were written and after they are read."""
    return hashlib.sha256(json.dumps([step, dict(state)]).encode()).hexdigest()


def _steps(folder: Path) -> list[Path]:
    """Oldest first: by how often the run had gone back, then by step."""
    found = [(match, p) for p in folder.glob("step-*") if (match := _NAME.fullmatch(p.name)) and p.is_dir()]
    return [path for _, path in sorted(((int(m[2] or 0), int(m[1])), path) for m, path in found)]
