"""Places: which files a task's questions are read from: a person's folder, Hugging Face's layout in it, or the hub.

What stands in for a split that is not there is said. This module does not know what is in the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bloomery.core.errors import ConfigError, DataError, MissingExtraError
from bloomery.corpus.hub_datasets import dataset_files
from bloomery.evaluate.tasks.rows import Row, members, read_rows, split_archive
from bloomery.evaluate.tasks.task import Task

DATA_VARIABLE = "BLOOMERY_DATA"
HUB = "hub"
"""Given for a folder: download from the hub what lies nowhere here."""


@dataclass(frozen=True)
class Place:
    """A file, or one within an archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)


@dataclass(frozen=True)
class Found:
    """The files of a task's questions, or of its examples, and what should be said of them."""

    places: tuple[Place, ...]
    note: str = ""

    def rows(self) -> Iterator[Row]:
        """Of all files, in order."""
        return (row for place in self.places for row in read_rows(place.path, member=place.member))


def folders(given: str | Path | None = None) -> tuple[Path, ...]:
    """Where data may lie: the folder that is given, else $BLOOMERY_DATA; each with its folder `eval`, if it has one."""
    named = str(given) if given is not None and str(given) != HUB else os.environ.get(DATA_VARIABLE, "")
    if not named:
        return ()
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"no such folder of data: {folder}", hint="--data FOLDER")
    return (folder / "eval", folder) if (folder / "eval").is_dir() else (folder,)


def questions(task: Task, where: Sequence[Path], *, download: bool = False) -> Found:
    """The files of a task's questions. DataError, which says what was sought, if there are none."""
    data = task.data
    own = (Path(task.folder),) if task.folder else ()
    if places := _first(data.files, (*own, *where)):
        return Found(places)
    if places := _dataset(task, data.split, where, download=download):
        return Found(places)
    if places := _first(data.stand_ins, where):
        return Found(places, f"{task.name}: its split {data.split!r} is not here, another one stands in: {places[0]}")
    raise DataError(f"there are no data of {task.name}: {_sought(task, where)}", hint=_hint(task))


def examples(task: Task, where: Sequence[Path], *, download: bool = False) -> Found:
    """The files of its few-shot examples. ConfigError for a task that has none, DataError if they are not there."""
    data = task.data
    own = (Path(task.folder),) if task.folder else ()
    if places := _first(data.example_files, (*own, *where)):
        return Found(places)
    if data.example_split and (places := _dataset(task, data.example_split, where, download=download)):
        return Found(places)
    if not data.example_split and not data.example_files:
        raise ConfigError(f"{task.name} has no examples", hint="example_files in its [data], or --few-shot 0")
    raise DataError(f"there are no examples of {task.name}: {_sought(task, where)}", hint=_hint(task))


def _first(patterns: Sequence[str], where: Sequence[Path]) -> tuple[Place, ...]:
    """The files of the first pattern that fits any in a folder."""
    for folder in where:
        for pattern in patterns:
            if found := tuple(_fitting(folder, pattern)):
                return found
    return ()


def _fitting(folder: Path, pattern: str) -> Iterator[Place]:
    archive, inner = split_archive(pattern)
    if not archive:
        if (folder / pattern).is_file():  # a name that looks like a pattern, or a whole path
            yield Place(folder / pattern)
            return
        path = Path(pattern)
        found = (folder / path.anchor).glob(str(path.relative_to(path.anchor)))
        yield from (Place(one) for one in sorted(found) if one.is_file())
        return
    path = folder / archive
    if path.is_file():
        for name in sorted(members(path)):
            if fnmatchcase(name.removeprefix("./"), inner):
                yield Place(path, name)


def _dataset(task: Task, split: str, where: Sequence[Path], *, download: bool) -> tuple[Place, ...]:
    """A split of the dataset's own files: in a folder called as on the hub, or from there."""
    hub = task.data.hub
    if not hub:
        return ()
    owner, _, name = hub.rpartition("/")
    for folder in where:
        for inner in (hub, f"{owner}___{name}", f"{owner}--{name}", name):
            if (folder / inner).is_dir() and (places := _split(folder / inner, task.data.config, split)):
                return places
    return _split(_downloaded(hub), task.data.config, split) if download else ()


def _split(root: Path, config: str, split: str) -> tuple[Place, ...]:
    """The files of a split of a dataset's folder; its configuration may be a folder of its own."""
    if config and (root / config).is_dir():
        root, config = root / config, ""
    try:
        files = list(dataset_files(f"hf:{root}#{config}" if config else f"hf:{root}"))
    except ConfigError as error:
        if "has no configurations" not in error.message:
            raise
        files = list(dataset_files(f"hf:{root}"))
    return tuple(Place(one.path) for one in files if one.metadata.get("split") == split)


def _downloaded(hub: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub", "downloading a dataset") from None
    patterns = ["*.parquet", "*.jsonl", "*.json", "*.csv", "README.md"]
    try:
        return Path(snapshot_download(hub, repo_type="dataset", allow_patterns=patterns))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise DataError(f"{hub} cannot be downloaded: {' '.join(str(error).split())[:200]}") from error


def _sought(task: Task, where: Sequence[Path]) -> str:
    names = [*task.data.files[:2], *([f"{task.data.hub}/"] if task.data.hub else [])]
    listed = " and ".join(map(str, where)) or "no folder, for none is given"
    return f"no {' or '.join(names) or 'file that it names'} in {listed}"


def _hint(task: Task) -> str:
    return f"--data FOLDER, ${DATA_VARIABLE}" + (f", or --data {HUB}" if task.data.hub else "")
