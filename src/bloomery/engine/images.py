"""Images: the folder of those that are kept for quick starts, and by what each is found.

They lie in the cache folder's `images`, at most `MAX_BYTES` in one and `MAX_ALL_BYTES` together. Those asked for
longest ago are thrown away, and all that nobody has asked for in a month, or whose model's folder is gone; a disk that
has little room gets none; BLOOMERY_IMAGES=off leaves all that out. An image belongs to the files of a model as they lay
there (their names, sizes and times of change), to this machine and its settings, to bloomery's code, and to PyTorch's
version. This module does not know PyTorch, nor what is in an image.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bloomery
from bloomery.core.config import digest
from bloomery.core.errors import BloomeryError, DataError
from bloomery.core.workspace import Workspace
from bloomery.engine.finding import find_model
from bloomery.models.native.image import PARTIAL, source_of
from bloomery.models.native.library import OFF_VARIABLE, library
from bloomery.models.native.machine import cached, processor

IMAGES_VARIABLE = "BLOOMERY_IMAGES"
"""Set to "off" in the environment: no image is kept or looked for."""
MAX_BYTES, MAX_ALL_BYTES = 1 << 30, 4 << 30
_FREE_SHARE = 4
"""How many times its size is to be free on the disk before an image is kept."""
_DAYS, _SECONDS_OF_WRITING = 30, 3600
_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""With one of them a model may be computed elsewhere."""
_SETTINGS = (
    *(OFF_VARIABLE, "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
)
"""What in the environment changes how a model is computed."""
_CODE = ("models", "engine")
_NAME = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Wanted:
    """A model as it lies in its folder now: `key`, 64 hex digits, is what its image is kept by."""

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """Of its image."""
        return images_folder() / self.key


def wanted(reference: str, workspace: Workspace, weights: str | None) -> Wanted | None:
    """What a reference stands for now, the newest model of the workspace if it is empty; None where no images are kept,
    or there is no such model here: one on the hub may have changed there."""
    if os.environ.get(IMAGES_VARIABLE) == "off" or library().calls is None:
        return None
    try:
        images_folder()
        folder, _ = find_model(reference or workspace.latest("model", verify=False), workspace, hasty=True)
        return Wanted(folder, _key(folder, weights))
    except (BloomeryError, OSError):  # the usual way says what is wrong
        return None


def images_folder() -> Path:
    """Where images are. OSError for a user who has no home."""
    try:
        return cached("images")
    except RuntimeError as error:
        raise OSError(str(error)) from error


def has_room(size: int) -> bool:
    """Whether an image of so many bytes may be kept; the folder is there then. OSError if it cannot be made."""
    images_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    return size <= MAX_BYTES and _FREE_SHARE * size <= shutil.disk_usage(images_folder()).free


def make_room(size: int) -> None:
    """Throw away what a killed process left half written, and images as the module says, until one of that size
    fits."""
    held = 0
    for one, status in sorted(_files(), key=lambda both: -both[1].st_mtime):
        half, age = one.suffix == PARTIAL, time.time() - status.st_mtime
        if half and age < _SECONDS_OF_WRITING:
            continue
        held += status.st_size
        if half or held + size > MAX_ALL_BYTES or age > _DAYS * 86400 or _is_orphaned(one):
            held -= status.st_size
            one.unlink(missing_ok=True)


def told_of_images() -> str:
    """What is kept and where, in words."""
    if os.environ.get(IMAGES_VARIABLE) == "off":
        return f"none are kept for quick starts: {IMAGES_VARIABLE}=off"
    try:
        sizes = [status.st_size for one, status in _files() if one.suffix != PARTIAL]
        return f"{len(sizes)} kept for quick starts, {sum(sizes) / 1e6:.0f} MB in {images_folder()}"
    except OSError as error:
        return f"none are kept for quick starts: {error}"


def _files() -> Iterator[tuple[Path, os.stat_result]]:
    """Images and halves of them; other files are somebody else's."""
    for one in images_folder().iterdir() if images_folder().is_dir() else ():
        with contextlib.suppress(OSError):  # another process made room
            status = one.lstat()
            if stat.S_ISREG(status.st_mode) and (one.suffix == PARTIAL or _NAME.fullmatch(one.name)):
                yield one, status


def _is_orphaned(path: Path) -> bool:
    """Whether nothing can ask for it any more: the model's folder is gone, or it is no image."""
    try:
        return not Path(source_of(path)).is_dir()
    except DataError:
        return True


def _key(folder: Path, weights: str | None) -> str:
    machine = [processor(), os.cpu_count(), _processors(), [Path(one).exists() for one in _DEVICES]]
    settings = [os.environ.get(name) for name in _SETTINGS]
    code = [_seen(one) for name in _CODE for one in sorted((Path(bloomery.__file__).parent / name).rglob("*.py"))]
    files = [_seen(one) for one in sorted(folder.iterdir()) if one.is_file()]
    return digest([library().text, code, _torch_version(), machine, settings, weights, str(folder.resolve()), files])


def _seen(file: Path) -> list[Any]:
    """What tells a file from what it may become."""
    status = file.stat()
    return [file.name, status.st_size, status.st_mtime_ns, status.st_ino]


def _processors() -> int | None:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "unknown"
