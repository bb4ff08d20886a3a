"""Readers: the documents of one file, by its format; text, JSONL and Parquet are read here.

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

from bloomery.corpus.code_files import read_code
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.delimited import read_delimited
from bloomery.corpus.document import Document, readable
from bloomery.corpus.formats import CODE, JSONL, PAGE, PARQUET, SEQUENCE, TABLE, WEB, format_of, kind_of
from bloomery.corpus.guard import Guard
from bloomery.corpus.page_files import read_page
from bloomery.corpus.problems import Problems
from bloomery.corpus.rows import field_of, row_document, tolerable
from bloomery.corpus.sequences import read_sequences
from bloomery.corpus.span import Span
from bloomery.corpus.streams import COMPRESSIONS, BrokenStream, as_utf8, decode, lines, read_blocks, span_blocks
from bloomery.corpus.web_records import read_web_archive

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS = 256
_COLUMN_BUFFER_BYTES = 1024 * 1024
# Reasons of a BrokenStream that say that the file as a whole is not to be read; the others are told and passed over.
FATAL = ("binary", "unreadable")


__all__ = ["kind_of", "read_file", "read_jsonl", "read_parquet", "read_text"]


def read_file(
    path: Path,
    config: CurateConfig,
    problems: Problems,
    *,
    kind: str = "",
    metadata: Mapping[str, Any] | None = None,
    span: Span | None = None,
    guard: Guard | None = None,
) -> Iterator[Document]:
    """The documents of a file, or of a span of it, by its format (`kind`, else its own); an unknown one is text.

    `metadata` is what the file's source says of it.

    BrokenStream if it cannot be read at all, MissingExtraError where the format needs a library that is not there.
    """
    kind, name = kind or format_of(path), readable(str(path))
    span = span or Span()
    if kind == PARQUET:
        yield from read_parquet(path, config, problems, span=span)
    elif kind == WEB:
        yield from read_web_archive(path, config, problems, span=span, guard=guard)
    elif kind == PAGE:
        yield from read_page(path, config, problems, guard=guard)
    elif kind == CODE:
        yield from read_code(path, config, problems, metadata or {})
    elif kind == SEQUENCE:
        yield from read_sequences(path, config, problems, span=span)
    elif kind == TABLE:
        yield from read_delimited(path, config, problems, span=span)
    elif span.start:
        first = span.lines + 2  # the lines before, and the one in which the span starts
        yield from read_jsonl(span_blocks(path, span), name, config, problems, first_line=first)
    else:
        whole = span.stop is None
        raw = read_blocks(path, max_expansion=config.max_expansion) if whole else span_blocks(path, span)
        blocks = as_utf8(raw, config.encoding)
        yield from (read_jsonl if kind == JSONL else read_text)(blocks, name, config, problems)
        span.begin = 0


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
    if invalid and not tolerable(invalid, text, f"{name}, line {line + first - 1}", problems):
        return
    yield Document.of(text, name, metadata)


def read_jsonl(
    blocks: Iterable[bytes], name: str, config: CurateConfig, problems: Problems, *, first_line: int = 1
) -> Iterator[Document]:
    """The object of every line whose `text_field` is a string. Blank lines are passed over."""
    number = first_line - 1
    try:
        for counted, line in lines(blocks, max_bytes=config.max_document_bytes):
            number = counted + first_line - 1
            where = f"{name}, line {number}"
            if line is None:
                problems.add("line_too_long", where, f"more than {config.max_document_bytes:,} bytes")
                continue
            if not line.strip():
                continue
            row = _object(line, where, problems)
            if row is not None:
                yield from row_document(row, {"line": number}, name, where, config, problems)
    except BrokenStream as error:
        if error.reason in FATAL:
            raise
        problems.add(error.reason, f"{name}, line {number + 1}", error.detail)


def _object(line: bytes, where: str, problems: Problems) -> dict[str, Any] | None:
    text, invalid, _ = decode(line)
    if invalid and not tolerable(invalid, text, where, problems):
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


def read_parquet(
    path: Path, config: CurateConfig, problems: Problems, *, span: Span | None = None
) -> Iterator[Document]:
    """The rows of a Parquet file, a few hundred in memory at a time; a damaged row group is left out.

    A span counts row groups.
    """
    span = span or Span()
    span.begin, span.end = span.start, span.stop
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
        for group in range(file.num_row_groups if span.stop is None else span.stop):
            try:
                if group >= span.start:
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
    text = field_of(row, config.text_field)
    if isinstance(text, (str, bytes)) and len(text) > config.max_document_bytes:
        problems.add("row_too_long", where, f"more than {config.max_document_bytes:,} bytes")
        return
    if isinstance(text, bytes):
        text, invalid, _ = decode(text)
        if invalid and not tolerable(invalid, text, where, problems):
            return
        row = {**row, config.text_field: text}
    yield from row_document(row, {"row": number}, readable(str(path)), where, config, problems)


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
