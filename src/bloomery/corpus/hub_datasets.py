"""Hub datasets: `hf:FOLDER` names the data files of a Hugging Face dataset that lies on this machine, splits kept.

`hf:FOLDER#CONFIG` chooses one of several configurations. The splits are those of `configs: data_files` in README.md,
else what the names of files and folders say, by the rules of Hugging Face's "Structure your repository". Nothing is
downloaded and no script of the folder is run. This module does not know how a file is read.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError, MissingExtraError, nearest
from bloomery.corpus.document import readable
from bloomery.corpus.formats import JSONL, KINDS, PARQUET, TABLE, TEXT, kind_of
from bloomery.corpus.source_file import SourceFile

PREFIX = "hf:"
_KEYWORDS = {
    "train": "train|training",
    "validation": "validation|valid|dev|val",
    "test": "test|testing|eval|evaluation",
}
_SHARDED = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]+")
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_README_BYTES = 4 * 1024 * 1024


def dataset_files(source: str) -> Iterator[SourceFile]:
    """The data files of `hf:FOLDER` or `hf:FOLDER#CONFIG`, split by split; metadata: split, and config where named.

    ConfigError if there is no such folder, configuration or data file.
    """
    folder, _, wanted = source.removeprefix(PREFIX).partition("#")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigError(
            f"no such folder: {root}", hint="hf:FOLDER names a dataset on this machine; nothing is loaded"
        )
    configs = _configs(root)
    if configs:
        name, data_files = _chosen(configs, wanted, root)
        splits = _patterns(data_files, root)
    elif wanted:
        raise ConfigError(f"{root} has no configurations", hint=f"give {PREFIX}{root}")
    else:
        name, splits = "", _by_names(root)
    found = False
    for split, paths in splits.items():
        for path in paths:
            found = True
            kind = JSONL if kind_of(path) == ".json" else ""
            metadata = {"split": split, "config": name} if name else {"split": split}
            yield SourceFile(path, named=False, kind=kind, metadata=metadata)
    if not found:
        raise ConfigError(f"{root} holds no data file", hint="Parquet, JSONL, CSV, TSV or text, by suffix")


def _data_files(root: Path) -> list[Path]:
    """Every file that may be data, in name order; hidden ones, and README.md, are none."""
    found = []
    for path in sorted(root.rglob("*")):
        inner = path.relative_to(root)
        hidden = any(part.startswith((".", "__")) for part in inner.parts)
        data = KINDS.get(kind_of(path)) in (JSONL, PARQUET, TABLE, TEXT) or kind_of(path) == ".json"
        if data and not hidden and path.suffix.lower() not in (".md", ".rst") and path.is_file():
            found.append(path)
    return found


def _by_names(root: Path) -> dict[str, list[Path]]:
    """Shards called data/SPLIT-00000-of-00001, else folders, else files that have a split's name; else all train."""
    files = _data_files(root)
    splits: dict[str, list[Path]] = {}
    for path in files:
        if sharded := _SHARDED.fullmatch(path.relative_to(root).as_posix()):
            splits.setdefault(sharded[1], []).append(path)
    if splits:
        known = [name for name in _KEYWORDS if name in splits]
        return {name: splits[name] for name in [*known, *(n for n in splits if n not in known)]}
    for of_folders in (True, False):
        for split, words in _KEYWORDS.items():
            sign = re.compile(rf"(?:^|[-._ 0-9/])(?:{words})(?=$|[-._ 0-9/])")
            found = [path for path in files if sign.search(_part(path, root, of_folders))]
            if found:
                splits[split] = found
        if splits:
            return splits
    return {"train": files} if files else {}


def _part(path: Path, root: Path, of_folders: bool) -> str:
    inner = path.relative_to(root)
    return inner.parent.as_posix() if of_folders else inner.name


def _configs(root: Path) -> list[Mapping[str, Any]]:
    """The configurations that README.md describes."""
    try:
        with (root / "README.md").open("rb") as stream:
            text = stream.read(_README_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    front = _FRONT.match(text.removeprefix("\ufeff"))
    if front is None or not re.search(r"^configs:", front[1], re.MULTILINE):
        return []
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("pyyaml", "web", f"reading {root / 'README.md'}") from None
    try:
        configs = yaml.safe_load(front[1]).get("configs")
    except (yaml.YAMLError, AttributeError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{root / 'README.md'}: its YAML cannot be read: {said}", hint="mend it, or give the files"
        ) from error
    if not isinstance(configs, list):
        return []
    return [config for config in configs if isinstance(config, Mapping) and config.get("data_files") is not None]


def _chosen(configs: list[Mapping[str, Any]], wanted: str, root: Path) -> tuple[str, Any]:
    named = {str(config.get("config_name", "default")): config for config in configs}
    default = [name for name, config in named.items() if config.get("default") is True or name == "default"]
    if not wanted and len(named) > 1 and not default:
        raise ConfigError(f"{root} has {len(named)} configurations", hint=f"{PREFIX}{root}#{next(iter(named))}")
    name = wanted or (default or list(named))[0]
    if name not in named:
        raise ConfigError(f'{root} has no configuration "{name}"', hint=nearest(name, named))
    return name, named[name]["data_files"]


def _patterns(data_files: Any, root: Path) -> dict[str, list[Path]]:
    """Paths and globs of each split: a string or list is all train, else a list of {split, path}."""
    if isinstance(data_files, str):
        data_files = [data_files]
    if not isinstance(data_files, list):
        raise ConfigError(f"{root / 'README.md'}: data_files should be a path or a list", hint="see configs")
    splits: dict[str, list[Path]] = {}
    for entry in data_files:
        named = isinstance(entry, Mapping)
        split = str(entry.get("split", "train")) if named else "train"
        paths = entry.get("path") if named else entry
        for pattern in paths if isinstance(paths, list) else [paths]:
            splits.setdefault(readable(split), []).extend(_resolved(str(pattern), root))
    return {split: list(dict.fromkeys(paths)) for split, paths in splits.items()}


def _resolved(pattern: str, root: Path) -> list[Path]:
    if "://" in pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise ConfigError(f"{root / 'README.md'}: {pattern} is not in the folder", hint="nothing is downloaded")
    found = sorted(glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207 relative to the root
    return [root / name for name in found if (root / name).is_file()]
