"""Sources: from what the user named to documents.

A source is "python-docs", a file, a folder (read recursively, by suffix, compressed or not, hidden ones left out), a
glob, `code:FOLDER` (a source tree) or `hf:FOLDER` (a Hugging Face dataset). Files come in name order, so the same files
give the same corpus. This module does not know how a file is read (readers), nor splits or shards.
"""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from bloomery.core.config import digest
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.processors import processors
from bloomery.corpus import hub_datasets, source_trees
from bloomery.corpus.batch_stages import Batch, batch_stages, cut, through
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document
from bloomery.corpus.formats import KINDS, check_packages_of, extracted, format_of, kind_of, web_versions
from bloomery.corpus.mix_config import MIX_VERSION
from bloomery.corpus.personal_config import PERSONAL_VERSION
from bloomery.corpus.problems import Problems, RecordedProblems
from bloomery.corpus.python_docs import NAME, missing_packages, python_documents, versions
from bloomery.corpus.reader_pool import ReaderPool
from bloomery.corpus.readers import read_file
from bloomery.corpus.reading_log import ReadingLog
from bloomery.corpus.record import Record
from bloomery.corpus.source_file import SourceFile
from bloomery.corpus.streams import COMPRESSIONS, BrokenStream

# Less than this is read, or read and held to rules, sooner than processes are started.
_POOL_BYTES = 64 * 1024 * 1024
_JUDGED_BYTES = 8 * 1024 * 1024
_BATCH_RECORDS, _BATCH_CHARACTERS = 256, 256 * 1024


def fingerprint(config: CurateConfig) -> str:
    """A digest of what the sources are now: path, size and modification time of files, and versions: of
    python-docs, and of what takes pages apart."""
    parts: list[list[object]] = []
    pages = False
    for source in config.sources:
        if source == NAME:
            parts.append([NAME, versions(config.packages)])
            continue
        for file in source_files(source):
            try:
                status = _status(file.path)
            except OSError as error:
                raise _unreadable(file.path, error) from error
            parts.append([ascii(str(file.path)), status.st_size, status.st_mtime_ns])
            if file.metadata:
                parts[-1].append(dict(file.metadata))
            pages = pages or extracted(file.kind or format_of(file.path))
    if pages:
        parts.append(["web", web_versions()])
    if stamp := config.filter.stamp():
        parts.append([*stamp])
    if config.personal.active:
        parts.append([PERSONAL_VERSION, *(["ids of scores are those of the corpus"] if config.filter.active else [])])
    if stamp := config.dedup.stamp():
        parts.append([*stamp])
    if config.mix.active:
        parts.append([MIX_VERSION])
    for path in [*config.filter.files(), *config.dedup.files()]:
        status = path.stat() if path.exists() else None  # who reads it says what is missing
        parts.append([ascii(str(path)), status and status.st_size, status and status.st_mtime_ns])
    return digest(parts)


def _status(path: Path) -> os.stat_result:
    """Of a file, or of a link that leads nowhere but in a circle: whatever reads it tells of that."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return path.lstat()


def source_files(source: str) -> Iterator[SourceFile]:
    """The files of a source, in name order (`hf:` split by split). ConfigError if it names none."""
    if source.startswith((source_trees.PREFIX, hub_datasets.PREFIX)):
        yield from _prefixed(source)
        return
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


def _prefixed(source: str) -> Iterator[SourceFile]:
    trees = source.startswith(source_trees.PREFIX)
    try:
        yield from source_trees.tree_files(source) if trees else hub_datasets.dataset_files(source)
    except OSError as error:
        raise _unreadable(Path(source), error) from error
    except (ValueError, RuntimeError) as error:  # a NUL byte in the name, or ~ of nobody
        raise ConfigError(f"{source!r} is not a path: {error}", hint="give a folder") from error


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
        if kind_of(path) in KINDS:
            found = True
            yield SourceFile(path, named=False)
    if not found:
        known = " ".join(sorted(KINDS))
        raise ConfigError(
            f"{folder} holds no file of a known format",
            hint=f"files are known by {known}, also with {' '.join(COMPRESSIONS)}; a glob takes any",
        )


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder in name order, hidden ones left out. A link that leads in a circle counts as a file:
    who reads it says why that cannot be done."""
    # Folders that are links are not followed: they may lead in a circle.
    with os.scandir(folder) as entries:
        ordered = sorted((entry.name, entry.is_dir(follow_symlinks=False), _is_file(entry)) for entry in entries)
    for name, is_folder, is_file in ordered:
        if name.startswith("."):
            continue
        if is_folder:
            yield from walk(folder / name)
        elif is_file:
            yield folder / name


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return True


def _hint(path: Path) -> str:
    return "check the spelling" if path.parent.is_dir() else f"there is no folder {path.parent} either"


def _unreadable(path: Path, error: OSError) -> DataError:
    where = error.filename or path
    return DataError(f"cannot read {where}: {error.strerror or error}", hint="check its permissions")


def read_sources(config: CurateConfig, problems: Problems, *, workers: int = 0) -> Generator[Document, None, None]:
    """Every document of every source, in order, cut at `cut_characters` if that is given.

    `workers` processes read at once, 0 is one for each processor; the documents are the same for any. Pages are always
    taken apart in a process of their own. DataError for a file given by name that is binary or cannot be opened
    (elsewhere that is a problem), and for a worker that dies.
    """
    with closing(read_batches(config, workers=workers)) as batches:
        for batch in batches:
            for record in cut(batch, config.cut_characters) if config.cut_characters else batch:
                if record.kind == "document":
                    yield record.document
                else:
                    problems.tell(record)


def read_batches(
    config: CurateConfig, *, workers: int = 0, scratch: Path | None = None
) -> Generator[Batch, None, None]:
    """The records of every source, in order. With a folder for what is half done they go through the config's stages
    (`batch_stages`) where they are read, and what reading large sources and pages gives is kept there in a log: the
    next call with that folder goes on where this one was ended."""
    workers, stages, tables = workers or processors(), [], None
    if scratch is not None:
        tables = scratch / "tables"
        tables.mkdir(parents=True, exist_ok=True)
        stages = batch_stages(config, tables)
    for number, source in enumerate(config.sources):
        ray = config.engine == "ray" and scratch is not None
        if source == NAME or not (_needs_pool(source, config, workers, scratch) or ray):
            for batch in _read_here(source, config):
                yield through(batch, stages)
            continue
        with ExitStack() as stack:
            log = stack.enter_context(ReadingLog(scratch / f"read-{number:04}")) if scratch else None
            if ray and log is not None and tables is not None:
                from bloomery.corpus.ray_engine import RayReader

                yield from RayReader(config, workers, tables=tables, stages=len(stages)).batches(
                    source_files(source), log
                )
            else:
                pool = stack.enter_context(ReaderPool(config, workers, tables=tables))
                yield from pool.batches(source_files(source), log)


def _read_here(source: str, config: CurateConfig) -> Iterator[Batch]:
    """The records of a source, read in this process."""
    batch: Batch = []
    characters = 0
    problems = RecordedProblems(batch.append)
    for document in _documents_here(source, config, problems, batch):
        batch.append(Record.of(document))
        characters += len(document.text)
        if len(batch) >= _BATCH_RECORDS or characters >= _BATCH_CHARACTERS:
            yield batch[:]
            batch.clear()
            characters = 0
    yield batch[:]


def _documents_here(source: str, config: CurateConfig, problems: Problems, batch: Batch) -> Iterator[Document]:
    if source == NAME:
        for package in missing_packages(config.packages):
            problems.add("package_not_installed", f"{NAME}:{package}", "skipped")
        yield from python_documents(config.packages, problems.add)
        return
    for file in source_files(source):
        try:
            for document in read_file(file.path, config, problems, kind=file.kind, metadata=file.metadata):
                yield replace(document, metadata={**file.metadata, **document.metadata})
        except BrokenStream as error:
            batch.append(Record.of_broken(str(file.path), error.reason, error.detail, named=file.named))


def _needs_pool(source: str, config: CurateConfig, workers: int, scratch: Path | None) -> bool:
    """Pages are to be taken apart, or there is enough to read for more than one process, or for a log of it.
    MissingExtraError where the libraries for it are not installed."""
    size, pages = 0, False
    judged = scratch is not None and (config.filter.active or config.personal.active)
    for file in source_files(source):
        kind = file.kind or format_of(file.path)
        if extracted(kind):
            check_packages_of(kind, file.path, config.extract)
            pages = True
        try:
            size += file.path.stat().st_size
        except OSError:
            continue
    return pages or ((workers > 1 or scratch is not None) and size >= (_JUDGED_BYTES if judged else _POOL_BYTES))
