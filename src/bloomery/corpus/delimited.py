"""Delimited: the rows of CSV and TSV files.

CSV is RFC 4180 as Python's csv module reads it (quoted fields may hold line ends), with commas, or with semicolons or
tabs where the header has them and no comma; TSV has no quoting. A row is named by the line on which it begins. The
first row names the columns, unless `text_field` is a number: then there is no header, and it counts columns from 1.
"""

from __future__ import annotations

import codecs
import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.document import Document, readable
from bloomery.corpus.formats import kind_of
from bloomery.corpus.problems import Problems
from bloomery.corpus.rows import row_document, tolerable
from bloomery.corpus.span import Span
from bloomery.corpus.streams import BrokenStream, as_utf8, decode, placed_lines, read_blocks

FATAL = ("binary", "unreadable")


class _RowTooLong(Exception):
    """A quotation mark that is never closed takes in everything after it."""


@dataclass(frozen=True)
class _Row:
    """A row, with the line and the offset at which it begins; or the reason why it is none."""

    number: int
    offset: int
    values: list[str]
    invalid: int
    reason: str
    detail: str


class _Lines:
    """The lines of a table for csv.reader, which takes as many as a row needs; `row` holds those of the row at hand."""

    def __init__(self, lines: Iterator[tuple[int, int, bytes | None]], limit: int) -> None:
        self.lines, self.limit = lines, limit
        self.again: deque[tuple[int, int, bytes | None]] = deque()
        self.row: list[tuple[int, int, bytes | None]] = []
        self.size = self.invalid = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        placed = self.again.popleft() if self.again else next(self.lines)
        self.row.append(placed)
        line = placed[2]
        self.size += self.limit + 1 if line is None else len(line)
        if self.size > self.limit:
            raise _RowTooLong
        text, invalid, _ = decode(line or b"")
        self.invalid += invalid
        return text + "\n"

    def begin_row(self) -> None:
        self.row, self.size, self.invalid = [], 0, 0

    def give_back(self) -> None:
        """All lines of this row but its first are read again, as rows of their own."""
        self.again.extendleft(reversed(self.row[1:]))
        del self.row[1:]


def read_delimited(
    path: Path, config: CurateConfig, problems: Problems, *, span: Span | None = None
) -> Iterator[Document]:
    """The documents of a CSV or TSV file, or of a span of it. BrokenStream if it cannot be read at all."""
    return _Table(path, config, problems, span or Span()).documents()


class _Table:
    def __init__(self, path: Path, config: CurateConfig, problems: Problems, span: Span) -> None:
        self.path, self.config, self.problems, self.span = path, config, problems, span
        self.name = readable(str(path))
        self.quoted = kind_of(path) != ".tsv"
        self.delimiter = "," if self.quoted else "\t"
        self.columns: list[str] = []
        self.number = 0
        self.sniffed = False
        csv.field_size_limit(max(csv.field_size_limit(), config.max_document_bytes + 1))

    def documents(self) -> Iterator[Document]:
        headed = not self.config.text_field.isdigit()
        if self.span.start:
            first = _Table(self.path, self.config, Problems(), Span())
            values = next((row.values for row in first._rows() if not row.reason), [])
            self.columns, self.delimiter, self.sniffed = values if headed else [], first.delimiter, True
        try:
            for row in self._rows():
                self.number = row.number
                if self.span.stop is not None and row.offset >= self.span.stop:
                    self.span.end = row.offset
                    return
                if self.span.begin is None:
                    self.span.begin = row.offset
                if row.reason:
                    self.problems.add(row.reason, f"{self.name}, line {row.number}", row.detail)
                elif headed and not self.columns:
                    self.columns = row.values
                    if self.config.text_field not in row.values:
                        shown = ", ".join(value[:40] for value in row.values[:8])
                        detail = f'no column "{self.config.text_field}"; there is: {shown}; without a header: 1, 2'
                        self.problems.add("missing_text", f"{self.name}, line {row.number}", detail)
                elif not headed or self.config.text_field in self.columns:
                    yield from self._document(row)
        except BrokenStream as error:
            if error.reason in FATAL:
                raise
            self.problems.add(error.reason, f"{self.name}, line {self.number + 1}", error.detail)

    def _document(self, row: _Row) -> Iterator[Document]:
        where, values = f"{self.name}, line {row.number}", row.values
        columns = self.columns or [str(n + 1) for n in range(len(values))]
        if len(values) != len(columns):
            self.problems.add("broken_row", where, f"{len(values)} fields, but {len(columns)} columns")
            return
        named = dict(zip(columns, values, strict=True))
        text = named.get(self.config.text_field, "")
        if row.invalid and not tolerable(row.invalid, text, where, self.problems):
            return
        yield from row_document(named, {"line": row.number}, self.name, where, self.config, self.problems)

    def _rows(self) -> Iterator[_Row]:
        """Every row, or why it is none; blank lines are passed over."""
        lines = _Lines(self._lines(), self.config.max_document_bytes)
        reader = None
        while True:
            lines.begin_row()
            values: list[str] = []
            reason = detail = ""
            try:
                if not self.quoted:
                    values = next(lines).removesuffix("\n").removesuffix("\r").split("\t")
                else:
                    reader = reader or csv.reader(self._sniffed(lines), delimiter=self.delimiter)
                    values = next(reader)
            except StopIteration:
                return
            except _RowTooLong:
                reason = "row_too_long"
                detail = f"more than {self.config.max_document_bytes:,} bytes; a quotation mark that is not closed?"
                lines.give_back()
            except csv.Error as error:
                reason, detail = "broken_row", str(error)
            if reason:
                reader = None
            elif not values or values == [""]:
                continue
            number, offset, _ = lines.row[0]
            yield _Row(number, offset, values, lines.invalid, reason, detail)

    def _sniffed(self, lines: _Lines) -> Iterator[str]:
        """The lines, once the header has said what stands between fields."""
        if not self.sniffed:
            self.sniffed = True
            first = next(lines, "")
            if "," not in first:
                self.delimiter = next((mark for mark in (";", "\t", "|") if mark in first), ",")
            if lines.row:
                lines.again.appendleft(lines.row.pop())
            lines.begin_row()
        return lines

    def _lines(self) -> Iterator[tuple[int, int, bytes | None]]:
        """Numbered lines of the file, or of the span from its first row on."""
        limit, span = self.config.max_document_bytes, self.span
        blocks = read_blocks(self.path, max_expansion=self.config.max_expansion)
        if not span.start:
            mark = _mark_bytes(self.path)
            return placed_lines(as_utf8(blocks, self.config.encoding), max_bytes=limit, offset=mark)
        return self._from_the_middle(limit)

    def _from_the_middle(self, limit: int) -> Iterator[tuple[int, int, bytes | None]]:
        span, quotes = self.span, self.span.quotes
        blocks = read_blocks(self.path, max_expansion=1, start=span.start - 1)
        placed = placed_lines(blocks, max_bytes=limit, number=span.lines + 1, offset=span.start - 1)
        for _, _, line in placed:  # the rest of the line before, and of the quoted field in which it is
            quotes += (line or b"").count(b'"')
            if span.sure or not self.quoted or quotes % 2 == 0:
                break
        yield from placed


def _mark_bytes(path: Path) -> int:
    """How many bytes a UTF-8 byte-order mark takes at the file's begin."""
    try:
        with path.open("rb") as stream:
            return 3 if stream.read(3) == codecs.BOM_UTF8 else 0
    except OSError:
        return 0
