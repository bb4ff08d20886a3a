"""Readers: the documents of one text, JSONL or Parquet file.

What cannot be read is told to `Problems` with file and line, and everything else is kept:

- invalid bytes become U+FFFD and are counted; a text of which more than 1% had to be replaced is left out, since it
  is in another encoding, and a model should not learn the damage;
- of a truncated or damaged file, what comes before the damage is kept, up to the last whole line;
- a row without text, a broken line, and a row beyond the size limit are left out.

This module does not know which files there are, nor what becomes of the documents.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bloomery.core.config import canonical_json
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document, readable
from bloomery.corpus.problems import Problems
from bloomery.corpus.streams import COMPRESSIONS, BrokenStream, as_utf8, decode, lines, read_blocks

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_MAX_INVALID_SHARE = 0.01
_BATCH_ROWS = 256
_COLUMN_BUFFER_BYTES = 1024 * 1024
# Reasons of a BrokenStream that say that the file as a whole is not to be read; the others are told and passed over.
FATAL = ("binary", "unreadable")
JSONL_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet",)
TEXT_SUFFIXES = (".txt", ".text", ".rst", ".md", ".markdown", ".mdx", ".adoc", ".org", ".tex")


def kind_of(path: Path) -> str:
    """The suffix that decides how a file is read: the last one before a compression's, in lower case."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return name.suffix.lower()


def read_file(path: Path, config: CurateConfig, problems: Problems) -> Iterator[Document]:
    """The documents of a file, by its suffix; an unknown one is text. BrokenStream if it cannot be read at all."""
    kind = kind_of(path)
    if kind in PARQUET_SUFFIXES:
        yield from read_parquet(path, config, problems)
        return
    blocks = as_utf8(read_blocks(path, max_expansion=config.max_expansion), config.encoding)
    if kind in JSONL_SUFFIXES:
        yield from read_jsonl(blocks, readable(str(path)), config, problems)
    else:
        yield from read_text(blocks, readable(str(path)), config, problems)


def read_text(blocks: Iterable[bytes], name: str, config: CurateConfig, problems: Problems) -> Iterator[Document]:
    """One document, or several cut at blank lines if the text is larger than `max_document_bytes`.

    The texts joined are the file's text.
    """
    limit = config.max_document_bytes
    buffer = bytearray()
    failure: BrokenStream | None = None
    line, part = 1, 0
    try:
        for block in blocks:
            buffer += block
            while len(buffer) > limit:
                piece = bytes(buffer[: _border(buffer, limit)])
                yield from _text(piece, name, line, {"part": part}, problems)
                del buffer[: len(piece)]
                line, part = line + piece.count(b"\n"), part + 1
    except BrokenStream as error:
        if error.reason in FATAL:
            raise
        failure = error
        del buffer[buffer.rfind(b"\n") + 1 :]
    if buffer or not part:
        yield from _text(bytes(buffer), name, line, {"part": part} if part else {}, problems)
    if failure is not None:
        problems.add(failure.reason, f"{name}, line {line + buffer.count(10)}", failure.detail)


def _border(buffer: bytearray, limit: int) -> int:
    """Where to cut: after the last blank line, else line, within `limit`, else before a character."""
    for border in (b"\n\n", b"\n"):
        if (end := buffer.rfind(border, 0, limit)) > 0:
            return end + len(border)
    end = limit
    while end > limit - 4 and buffer[end] & 0xC0 == 0x80:  # inside a UTF-8 sequence
        end -= 1
    return end


def _text(data: bytes, name: str, line: int, metadata: dict[str, Any], problems: Problems) -> Iterator[Document]:
    text, invalid, first = decode(data)
    if invalid and not _tolerable(invalid, text, f"{name}, line {line + first - 1}", problems):
        return
    yield Document.of(text, name, metadata)


def _tolerable(invalid: int, text: str, where: str, problems: Problems) -> bool:
    if invalid > _MAX_INVALID_SHARE * len(text):
        problems.add("other_encoding", where, f"{invalid:,} of {len(text):,} characters are invalid; set encoding")
        return False
    problems.add("invalid_bytes", where, f"{invalid:,} replaced")
    return True


def read_jsonl(blocks: Iterable[bytes], name: str, config: CurateConfig, problems: Problems) -> Iterator[Document]:
    """The object of every line whose `text_field` is a string. Blank lines are passed over."""
    number = 0
    try:
        for number, line in lines(blocks, max_bytes=config.max_document_bytes):
            where = f"{name}, line {number}"
            if line is None:
                problems.add("line_too_long", where, f"more than {config.max_document_bytes:,} bytes")
                continue
            if not line.strip():
                continue
            row = _object(line, where, problems)
            if row is not None:
                yield from _row(row, {"line": number}, name, where, config, problems)
    except BrokenStream as error:
        if error.reason in FATAL:
            raise
        problems.add(error.reason, f"{name}, line {number + 1}", error.detail)


def _object(line: bytes, where: str, problems: Problems) -> dict[str, Any] | None:
    text, invalid, _ = decode(line)
    if invalid and not _tolerable(invalid, text, where, problems):
        return None
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems.add("broken_json", where, str(error))
        return None
    if not isinstance(row, dict):
        problems.add("not_an_object", where, type(row).__name__)
        return None
    return row


def _row(
    row: Mapping[str, Any], metadata: dict[str, Any], name: str, where: str, config: CurateConfig, problems: Problems
) -> Iterator[Document]:
    text = _field(row, config.text_field)
    if not isinstance(text, str):
        keys = ", ".join(list(row)[:8])
        problems.add("missing_text", where, f'no string in "{config.text_field}"; there is: {keys}')
        return
    clean = readable(text)
    if clean != text:
        problems.add("invalid_bytes", where, "lone surrogates replaced")
    for field in config.metadata_fields:
        value = _field(row, field)
        if value is not None:
            metadata[field] = _plain(value)
    yield Document.of(clean, name, metadata)


def _field(row: Mapping[str, Any], field: str) -> Any:
    if field in row:
        return row[field]
    value: Any = row
    for key in field.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _plain(value: Any) -> Any:
    """The value if it is JSON data, else its text (dates, NaN)."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return json.loads(canonical_json(value))
    except (TypeError, ValueError, RecursionError):
        return str(value)


def read_parquet(path: Path, config: CurateConfig, problems: Problems) -> Iterator[Document]:
    """The rows of a Parquet file, a few hundred in memory at a time; a damaged row group is left out."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    with ExitStack() as stack:
        source: Path | IO[bytes] = path
        try:
            if path.suffix.lower() in COMPRESSIONS:
                source = stack.enter_context(tempfile.TemporaryFile())
                for block in read_blocks(path, max_expansion=config.max_expansion):
                    source.write(block)
                source.seek(0)
            file = stack.enter_context(ParquetFile(source, buffer_size=_COLUMN_BUFFER_BYTES))
        except BrokenStream as error:
            if error.reason in FATAL:
                raise
            problems.add(error.reason, str(path), error.detail)
            return
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            problems.add("damaged", str(path), str(error))
            return
        names = set(file.schema_arrow.names)
        if config.text_field.split(".")[0] not in names and config.text_field not in names:
            problems.add(
                "missing_text", str(path), f'no column "{config.text_field}"; there is: {", ".join(sorted(names))}'
            )
            return
        first = 0
        for group in range(file.num_row_groups):
            try:
                yield from _row_group(file, group, first, path, config, problems)
            except (pyarrow.ArrowException, OSError, ValueError) as error:
                problems.add("damaged", f"{path}, row group {group}", str(error))
            first += file.metadata.row_group(group).num_rows


def _row_group(
    file: ParquetFile, group: int, first: int, path: Path, config: CurateConfig, problems: Problems
) -> Iterator[Document]:
    wanted = [config.text_field, *config.metadata_fields]
    number = first
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False):
        for row in _rows(batch):
            yield from _checked(row, number, path, config, problems)
            number += 1


def _checked(
    row: dict[str, Any], number: int, path: Path, config: CurateConfig, problems: Problems
) -> Iterator[Document]:
    where = f"{path}, row {number}"
    text = _field(row, config.text_field)
    if isinstance(text, (str, bytes)) and len(text) > config.max_document_bytes:
        problems.add("row_too_long", where, f"more than {config.max_document_bytes:,} bytes")
        return
    if isinstance(text, bytes):
        text, invalid, _ = decode(text)
        if invalid and not _tolerable(invalid, text, where, problems):
            return
        row = {**row, config.text_field: text}
    yield from _row(row, {"row": number}, readable(str(path)), where, config, problems)


def _rows(batch: Any) -> Iterator[dict[str, Any]]:
    """Rows as dicts. Top-level strings come as bytes: pyarrow would raise at the first invalid one."""
    import pyarrow

    columns = []
    for column in batch.columns:
        kind = column.type
        if pyarrow.types.is_dictionary(kind):
            column = column.dictionary_decode()
            kind = column.type
        if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
            column = column.cast(pyarrow.large_binary())
        columns.append(column)
    for values in zip(*columns, strict=True):
        yield {name: value.as_py() for name, value in zip(batch.schema.names, values, strict=True)}
