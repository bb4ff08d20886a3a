"""Artifact: an immutable folder with a manifest, there whole or not at all.

An artifact's id is the SHA-256 over its kind and its files (path, size, SHA-256 of each), so equal content has
an equal id whenever and wherever it was made. It is written beside its place, every file is flushed to disk,
and one rename publishes it. Opening verifies every byte by default.

This module does not know what the files mean (each floor reads its own kind) nor the ledger.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.config import digest
from bloomery.core.errors import ArtifactError, DamagedError
from bloomery.core.quantity import Quantity

MANIFEST = "manifest.json"
FORMAT = 1
_MAX_MANIFEST_BYTES = 64 * 1024 * 1024
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers of a disk that has no room, or none for this user or file."""


@dataclass(frozen=True)
class Artifact:
    """A published folder. `id` is 64 hex digits; `manifest` is the parsed manifest.json."""

    path: Path
    id: str
    kind: str
    manifest: Mapping[str, Any]

    @property
    def parents(self) -> tuple[str, ...]:
        return tuple(self.manifest["parents"])

    @property
    def config(self) -> Mapping[str, Any]:
        return self.manifest["config"]

    @property
    def metrics(self) -> Mapping[str, Any]:
        return self.manifest["metrics"]

    @property
    def energy_joules(self) -> Quantity:
        return Quantity.from_dict(self.manifest["energy_joules"])

    @property
    def name(self) -> str:
        """`kind-0123456789ab`: short enough to type, long enough to be unique in one workspace."""
        return f"{self.kind}-{self.id[:12]}"

    def file(self, name: str) -> Path:
        """The path of a file that the manifest lists; ArtifactError if it lists none of that name."""
        if name not in {f["path"] for f in self.manifest["files"]}:
            raise ArtifactError(f"{self.name} holds no file {name!r}", hint=f"see {self.path / MANIFEST}")
        return self.path / name

    def files(self, pattern: str) -> list[Path]:
        """Listed files that match a glob pattern, in name order."""
        names = sorted(f["path"] for f in self.manifest["files"])
        return [self.path / n for n in names if Path(n).match(pattern)]

    @classmethod
    def open(cls, path: str | Path, *, kind: str | None = None, verify: bool = True) -> Artifact:
        """Open a published folder.

        With `verify` every listed file is read and hashed, and a file too many is an error too; without it only
        names and sizes are checked. Raises ArtifactError naming the first file that is wrong.
        """
        folder = Path(path)
        manifest = _read_manifest(folder)
        try:
            artifact = cls(path=folder, id=manifest["id"], kind=manifest["kind"], manifest=manifest)
            _ = (artifact.parents, artifact.config, artifact.metrics, artifact.energy_joules)  # all there
            files = [(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in manifest["files"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder / MANIFEST} is not a manifest: {error}") from error
        if kind is not None and artifact.kind != kind:
            raise ArtifactError(f"{folder} is a {artifact.kind}, not a {kind}", hint=f"give the path of a {kind}")
        _check_files(folder, files, deep=verify)
        if content_id(artifact.kind, files) != artifact.id:
            raise DamagedError(f"{folder / MANIFEST} was changed: its id does not fit its files", hint=_DAMAGED)
        return artifact


def content_id(kind: str, files: Sequence[tuple[str, int, str]]) -> str:
    """SHA-256 over the kind and the sorted (path, size, sha256) of every file."""
    return digest({"kind": kind, "files": sorted([path, size, sha] for path, size, sha in files)})


def publish(
    folder: Path,
    artifacts: Path,
    *,
    kind: str,
    parents: Sequence[str],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    metrics: Mapping[str, Any],
    energy_joules: Quantity,
) -> Artifact:
    """Turn a finished folder on the same file system into `artifacts/<kind>-<id12>`, atomically.

    `provenance` holds what does not enter the id: run, stage, code versions, seconds. If the same content is
    already there and sound, that one is returned and the folder removed. Raises ArtifactError when the disk is
    full or not writable; the folder is then left as it was.
    """
    with disk_errors(f"cannot publish {kind}"):
        files = [(name, (folder / name).stat().st_size, sha256_file(folder / name)) for name in _walk(folder)]
        if not files:
            raise ArtifactError(f"nothing to publish: {folder} is empty")
        identity = content_id(kind, files)
        target = artifacts / f"{kind}-{identity[:12]}"
        manifest = {
            "format": FORMAT,
            "id": identity,
            "kind": kind,
            "parents": list(parents),
            "config": dict(config),
            **provenance,
            "metrics": dict(metrics),
            "energy_joules": energy_joules.to_dict(),
            "files": [{"path": p, "size": s, "sha256": h} for p, s, h in sorted(files)],
        }
        for name, _, _ in files:
            fsync(folder / name)
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        write_durably(folder / MANIFEST, text.encode("utf-8", "backslashreplace"))
        for directory in {(folder / name).parent for name, _, _ in files} | {folder}:
            fsync(directory)
        artifacts.mkdir(parents=True, exist_ok=True)
        if target.exists():
            existing = _sound(target)
            if existing is not None:
                shutil.rmtree(folder)
                return existing
            target.rename(artifacts / f"damaged-{target.name}-{os.getpid()}")
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            shutil.rmtree(folder)  # another process published the same content in between
        fsync(artifacts)
    return Artifact.open(target, verify=False)


class disk_errors:
    """Context manager: an OSError inside becomes an ArtifactError with a hint that fits its cause."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise as_artifact_error(error, self.doing) from error


def as_artifact_error(error: OSError, doing: str) -> ArtifactError:
    """The ArtifactError for an OSError: no space, no permission, read-only, or its own text."""
    hints = {
        errno.ENOSPC: "free some space and run the same command again: it goes on where it stopped",
        errno.EDQUOT: "your disk quota is used up: free some space and run the same command again",
        errno.EACCES: "choose a folder that you may write to: --home DIR or BLOOMERY_HOME",
        errno.EPERM: "choose a folder that you may write to: --home DIR or BLOOMERY_HOME",
        errno.EROFS: "the file system is read-only: choose another folder with --home DIR or BLOOMERY_HOME",
    }
    where = f" ({error.filename})" if error.filename and str(error.filename) not in doing else ""
    return ArtifactError(f"{doing}: {error.strerror or error}{where}", hint=hints.get(error.errno or 0, ""))


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush a file's or a directory's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write a whole file so that after a crash it holds either the old bytes or the new ones."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    fsync(path.parent)


_DAMAGED = "restore it from a copy, or remove it with `bloomery runs gc --damaged` and run its stage again"


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{path} is too large to be a manifest")
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{folder} is not an artifact: it has no {MANIFEST}") from None
    except OSError as error:
        raise as_artifact_error(error, f"cannot read {path}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: {error}", hint=_DAMAGED) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{path} has a format that this version does not read", hint="upgrade bloomery")
    return manifest


def _walk(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ArtifactError(f"{path} is a link: artifacts hold plain files only")
        if path.is_file() and path != folder / MANIFEST:
            yield path.relative_to(folder).as_posix()


def _check_files(folder: Path, files: Sequence[tuple[str, int, str]], *, deep: bool) -> None:
    for name, size, sha in files:
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise ArtifactError(f"{folder / MANIFEST} names a file outside its folder: {name!r}")
        try:
            found = path.stat().st_size
            if found != size:
                raise DamagedError(f"{path} has {found:,} bytes, its manifest says {size:,}", hint=_DAMAGED)
            if deep and sha256_file(path) != sha:
                raise DamagedError(f"{path} is damaged: its SHA-256 differs from the manifest's", hint=_DAMAGED)
        except FileNotFoundError:
            raise DamagedError(f"{path} is missing", hint=_DAMAGED) from None
        except OSError as error:
            raise as_artifact_error(error, f"cannot read {path}") from error
    extra = set(_walk(folder)) - {name for name, _, _ in files}
    if extra:
        raise ArtifactError(f"{folder} holds a file that its manifest does not list: {sorted(extra)[0]}")


def _sound(path: Path) -> Artifact | None:
    try:
        return Artifact.open(path)
    except ArtifactError:
        return None
