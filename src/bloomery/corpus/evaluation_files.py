"""Evaluation files: every text that they hold, or an error. This module does not know what the texts are compared with.

Each string of a row is a text, whatever its field is called: questions, answers and choices alike. Nothing is passed
over: a row that is broken, bytes that are not UTF-8, a format that is not known and a file without texts are errors,
because a file that was not read would look like one that nothing overlaps.
"""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.formats import kind_of
from bloomery.corpus.streams import BrokenStream, lines, read_blocks

_JSONL, _JSON, _TABLES, _PARQUET = (".jsonl", ".ndjson"), (".json",), (".csv", ".tsv"), (".parquet",)
_TEXTS = (".txt", ".text", ".md", ".markdown")
_KNOWN = (*_JSONL, *_JSON, *_TABLES, *_PARQUET, *_TEXTS)
_MAX_BYTES = 1 << 30  # of a file without rows, or of a row
_MAX_EXPANSION = 1000
_DEPTH = 64


def evaluation_files(names: Sequence[str | Path], *, what: str = "evaluation") -> list[Path]:
    """The files that these name (files, folders, globs), in order. ConfigError for a name that names none.

    `what` is how errors call the files, here and in `evaluation_texts`.
    """
    found: list[Path] = []
    for name in map(str, names):
        try:
            path = Path(name).expanduser()
            if path.is_dir():
                here = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
            elif path.is_file():
                here = [path]
            else:
                here = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]  # noqa: PTH207
        except (ValueError, RuntimeError, OSError) as error:
            raise ConfigError(f"{what}: {name!r} is not a path: {error}", hint="a file, a folder or a glob") from None
        if not here:
            raise ConfigError(f"{what}: there is no file {name}", hint="a file, a folder or a glob in quotes")
        found += [p for p in here if p not in found]
    return found


def evaluation_texts(path: Path, *, what: str = "evaluation", else_text: bool = False) -> Iterator[str]:
    """Every text of a file, in order, those without a letter or digit too. DataError for whatever cannot be read.

    A format that is not known is one of these, or, with `else_text`, read as text.
    """
    kind = kind_of(path)
    try:
        if kind in _JSONL:
            yield from _of_lines(path)
        elif kind in _JSON:
            yield from _of_json(path)
        elif kind in _TABLES:
            yield from _of_table(path, "\t" if kind == ".tsv" else ",")
        elif kind in _PARQUET:
            yield from _of_parquet(path)
        elif kind in _TEXTS or else_text:
            yield from _of_text(_whole(path))
        else:
            raise ValueError(f"its format is not known (these are: {' '.join(_KNOWN)})")
    except BrokenStream as error:
        raise _unreadable(path, f"{error.reason}: {error.detail}", what) from error
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        raise _unreadable(path, str(error), what) from error


def _unreadable(path: Path, why: str, what: str) -> DataError:
    return DataError(
        f"the {what} file {path} cannot be read: {' '.join(why.split())[:200]}",
        hint="mend it, or do not name it: nothing is compared with half of a file",
    )


def _whole(path: Path) -> str:
    data = bytearray()
    for block in read_blocks(path, max_expansion=_MAX_EXPANSION):
        data += block
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES >> 20} MiB; JSONL may be larger")
    if b"\0" in data:
        raise ValueError("it is binary: it holds NUL bytes")
    return data.decode("utf-8-sig")


def _of_lines(path: Path) -> Iterator[str]:
    for number, line in lines(read_blocks(path, max_expansion=_MAX_EXPANSION), max_bytes=_MAX_BYTES):
        if line is None:
            raise ValueError(f"line {number} is longer than {_MAX_BYTES >> 20} MiB")
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        if text.strip():
            try:
                row = json.loads(text)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            yield from _strings(row)


def _of_json(path: Path) -> Iterator[str]:
    text = _whole(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise
        value = [json.loads(line) for line in text.split("\n") if line.strip()]  # JSONL by another name
    yield from _strings(value)


def _of_table(path: Path, delimiter: str) -> Iterator[str]:
    # Every cell, the names of the columns too: there may be none, and they are hardly the words of a document.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_BYTES))
    for row in csv.reader(io.StringIO(_whole(path), newline=""), delimiter=delimiter, strict=delimiter == ","):
        yield from row


def _of_parquet(path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    yield from _strings(row)
    except pa.ArrowException as error:
        raise ValueError(error) from error


def _of_text(text: str) -> Iterator[str]:
    """Paragraphs, and of those with more than one line each line: a file may have one text a line."""
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        yield paragraph
        if "\n" in paragraph.strip():
            yield from paragraph.split("\n")


def _strings(value: Any, depth: int = 0) -> Iterator[str]:
    if depth > _DEPTH:
        raise ValueError(f"values are nested more than {_DEPTH} deep")
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner, depth + 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner, depth + 1)
