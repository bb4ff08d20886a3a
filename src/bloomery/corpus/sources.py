"""Sources: from what the user named to documents.

A source is "python-docs", a file, a folder (read recursively: text, Markdown, JSONL and Parquet by suffix, compressed
or not, hidden ones left out) or a glob. Files come in name order, so the same files give the same corpus. This module
does not know how a file is read (readers), nor splits or shards.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bloomery.core.config import digest
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document, cut_text
from bloomery.corpus.personal_config import PERSONAL_VERSION
from bloomery.corpus.problems import Problems
from bloomery.corpus.python_docs import NAME, missing_packages, python_documents, versions
from bloomery.corpus.readers import JSONL_SUFFIXES, PARQUET_SUFFIXES, TEXT_SUFFIXES, kind_of, read_file
from bloomery.corpus.streams import COMPRESSIONS, BrokenStream

_SUFFIXES = frozenset(JSONL_SUFFIXES + PARQUET_SUFFIXES + TEXT_SUFFIXES)


@dataclass(frozen=True)
class SourceFile:
    """`named` says that the user gave this very path, so that a file that cannot be read at all is an error."""

    path: Path
    named: bool


def fingerprint(config: CurateConfig) -> str:
    """A digest of what the sources are now: path, size and modification time of files, versions of python-docs."""
    parts: list[list[object]] = []
    for source in config.sources:
        if source == NAME:
            parts.append([NAME, versions(config.packages)])
            continue
        for file in source_files(source):
            try:
                status = file.path.stat()
            except OSError as error:
                raise _unreadable(file.path, error) from error
            parts.append([ascii(str(file.path)), status.st_size, status.st_mtime_ns])
    if stamp := config.filter.stamp():
        parts.append([*stamp])
    if config.personal.active:
        parts.append([PERSONAL_VERSION])
    for path in config.filter.files():
        status = path.stat() if path.exists() else None  # the filter itself says what is missing
        parts.append([ascii(str(path)), status and status.st_size, status and status.st_mtime_ns])
    return digest(parts)


def source_files(source: str) -> Iterator[SourceFile]:
    """The files of a source, in name order. ConfigError if it names none."""
    try:
        path = Path(source).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"no such user: {source}", hint="~ is your own folder, ~name that of a user") from error
    try:
        if path.is_file():
            yield SourceFile(path, named=True)
        elif path.is_dir():
            yield from _in_folder(path)
        elif path.exists():
            raise ConfigError(f"{source} is neither a file nor a folder", hint="give a file, a folder or a glob")
        elif glob.has_magic(source):
            yield from _matching(source)
        else:
            raise ConfigError(f"no such file or folder: {source}", hint=_hint(path))
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # a NUL byte in the name
        raise ConfigError(f"{source!r} is not a path: {error}", hint="give a file, a folder or a glob") from error


def _matching(pattern: str) -> Iterator[SourceFile]:
    names = sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))  # noqa: PTH207 absolute patterns too
    found = [Path(name) for name in names if Path(name).is_file()]
    if not found:
        hint = "quote the pattern so that the shell leaves it alone; ** reaches into folders"
        raise ConfigError(f"no file matches {pattern}", hint=hint)
    for path in found:
        yield SourceFile(path, named=False)


def _in_folder(folder: Path) -> Iterator[SourceFile]:
    found = False
    for path in walk(folder):
        if kind_of(path) in _SUFFIXES:
            found = True
            yield SourceFile(path, named=False)
    if not found:
        known = " ".join(sorted(_SUFFIXES))
        raise ConfigError(
            f"{folder} holds no text, Markdown, JSONL or Parquet file",
            hint=f"files are known by {known}, also with {' '.join(COMPRESSIONS)}; a glob takes any",
        )


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder in name order, hidden ones left out."""
    # Folders that are links are not followed: they may lead in a circle.
    with os.scandir(folder) as entries:
        ordered = sorted((entry.name, entry.is_dir(follow_symlinks=False), entry.is_file()) for entry in entries)
    for name, is_folder, is_file in ordered:
        if name.startswith("."):
            continue
        if is_folder:
            yield from walk(folder / name)
        elif is_file:
            yield folder / name


def _hint(path: Path) -> str:
    return "check the spelling" if path.parent.is_dir() else f"there is no folder {path.parent} either"


def _unreadable(path: Path, error: OSError) -> DataError:
    where = error.filename or path
    return DataError(f"cannot read {where}: {error.strerror or error}", hint="check its permissions")


def read_sources(config: CurateConfig, problems: Problems) -> Iterator[Document]:
    """Every document of every source, in order, cut at `cut_characters` if that is given.

    DataError for a file given by name that is binary or cannot be opened; elsewhere that is a problem.
    """
    for document in _whole(config, problems):
        if not 0 < config.cut_characters < len(document.text):
            yield document
            continue
        for part, text in enumerate(cut_text(document.text, config.cut_characters)):
            yield Document.of(text, document.source, {**document.metadata, "cut": part})


def _whole(config: CurateConfig, problems: Problems) -> Iterator[Document]:
    for source in config.sources:
        if source == NAME:
            for package in missing_packages(config.packages):
                problems.add("package_not_installed", f"{NAME}:{package}", "skipped")
            yield from python_documents(config.packages, problems.add)
            continue
        for file in source_files(source):
            try:
                yield from read_file(file.path, config, problems)
            except BrokenStream as error:
                if file.named:
                    hint = "give text, Markdown, JSONL or Parquet" if error.reason == "binary" else "check the file"
                    raise DataError(f"{file.path} is {error.reason}: {error.detail}", hint=hint) from error
                problems.add(error.reason, str(file.path), error.detail)
