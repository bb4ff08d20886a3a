"""Rows: a file of questions as plain rows, each with where it stands: JSONL, JSON, CSV, TSV, Parquet, packed or not.

"A.tar.xz/B.jsonl" is a file within an archive. A row that cannot be read is an error that names file and line: a task
of which half was read would be another task. This module does not know what rows mean.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bloomery.core.errors import DataError

_MAX_LINE = 1 << 24
_MAX_MEMBER = 1 << 30
CSV: Mapping[str, Any] = {"strict": True}
TSV: Mapping[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
"""Of csv's readers. Between tabs quotes are text, as IANA's text/tab-separated-values has it: one that a message begins
with would swallow the rows up to the next."""
_PACKED = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_ARCHIVES = (".tar", ".tar.xz", ".tar.gz", ".tgz", ".tar.bz2")
_BROKEN = (OSError, UnicodeDecodeError, lzma.LZMAError, EOFError, tarfile.TarError, csv.Error, ValueError)


@dataclass(frozen=True)
class Row:
    """A row, and where it stands: "FILE:LINE". `file` is the file's own name, without folders and suffixes."""

    values: dict[str, Any]
    where: str
    file: str


def split_archive(text: str) -> tuple[str, str]:
    """The path of an archive and of a file within it; ("", "") where there is no archive."""
    for suffix in _ARCHIVES:
        head, found, inner = text.partition(suffix + "/")
        if found:
            return head + suffix, inner
    return "", ""


def members(archive: Path) -> list[str]:
    """The files within an archive, in its order. DataError for one that cannot be read."""
    try:
        with tarfile.open(archive) as tar:
            return [one.name for one in tar if one.isfile()]
    except _BROKEN as error:
        raise DataError(f"{archive} cannot be read: {' '.join(str(error).split())[:200]}") from error


def read_rows(path: str | Path, *, member: str = "") -> Iterator[Row]:
    """The rows of a file, or of a `member` of an archive, in order. DataError with file and line."""
    path = Path(path)
    shown = f"{path}/{member}" if member else str(path)
    name = Path(member).name if member else path.name
    try:
        if Path(name).suffix == ".parquet":
            yield from _parquet(path, shown, name.split(".")[0])
            return
        with _opened(path, member) as file:
            yield from _text_rows(file, name, shown)
    except _BROKEN as error:
        raise DataError(f"{shown} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _opened(path: Path, member: str) -> IO[str]:
    if not member:
        opener = _PACKED.get(path.suffix)
        if opener is None:
            return path.open(encoding="utf-8-sig", newline="")
        return opener(path, "rt", encoding="utf-8-sig", newline="")  # type: ignore[return-value]
    with tarfile.open(path) as tar:
        found = tar.extractfile(member)
        if found is None:
            raise OSError(f"{member} is no file")
        data = found.read(_MAX_MEMBER + 1)
    if len(data) > _MAX_MEMBER:
        raise OSError(f"{member} is larger than {_MAX_MEMBER >> 20} MiB")
    return io.StringIO(data.decode("utf-8-sig"), newline="")


def _text_rows(file: IO[str], name: str, shown: str) -> Iterator[Row]:
    own, suffixes = name.split(".")[0], Path(name).suffixes
    kind = next((one for one in reversed(suffixes) if one not in _PACKED), "")
    if kind in (".csv", ".tsv"):
        yield from _table(file, own, shown, TSV if kind == ".tsv" else CSV)
    elif kind == ".json":
        yield from _json(file, own, shown)
    elif kind in (".jsonl", ".ndjson"):
        yield from _lines(file, own, shown)
    else:
        raise DataError(f"{shown}: its format is not known", hint="JSONL, JSON, CSV, TSV or Parquet, by suffix")


def _lines(file: IO[str], own: str, shown: str) -> Iterator[Row]:
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        if len(line) >= _MAX_LINE:
            raise DataError(f"{shown}:{number} is longer than {_MAX_LINE >> 20} MiB")
        if line.strip():
            yield _row(_parsed(line, f"{shown}:{number}"), f"{shown}:{number}", own)


def _json(file: IO[str], own: str, shown: str) -> Iterator[Row]:
    """An array of objects, or lines by another name."""
    text = file.read(_MAX_MEMBER + 1)
    if len(text) > _MAX_MEMBER:
        raise DataError(f"{shown} is larger than {_MAX_MEMBER >> 20} MiB", hint="JSONL may be larger")
    if not text.lstrip().startswith("["):
        yield from _lines(io.StringIO(text), own, shown)
        return
    for number, one in enumerate(_parsed(text, shown), 1):
        yield _row(one, f"{shown}[{number}]", own)


def _table(file: IO[str], own: str, shown: str, how: Mapping[str, Any]) -> Iterator[Row]:
    reader = csv.DictReader(file, **how)
    if not reader.fieldnames:
        return
    for values in reader:
        where = f"{shown}:{reader.line_num}"
        if None in values or None in values.values():
            raise DataError(f"{where} has {'more' if None in values else 'fewer'} fields than the first line")
        yield Row(dict(values), where, own)


def _parquet(path: Path, shown: str, own: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(256):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, f"{shown}:{number}", own)
    except pa.ArrowException as error:
        raise DataError(f"{shown} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}") from None


def _row(value: Any, where: str, own: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{where} should hold an object")
    return Row(value, where, own)
