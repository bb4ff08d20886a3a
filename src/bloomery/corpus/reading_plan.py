"""FilePlan: how a file is divided into spans, by its format and size alone, so that every reader divides it alike.

Line by line: JSONL, CSV and TSV, FASTA, FASTQ and GenBank, where they are plain and UTF-8; Parquet by row groups; WARC
and ARC by records, plain or by gzip member or zstd frame. Other files are one span.
"""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from bloomery.corpus.archive_records import REGION_BYTES
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.formats import JSONL, PARQUET, SEQUENCE, TABLE, WEB, format_of
from bloomery.corpus.source_file import SourceFile
from bloomery.corpus.span import Span, plan
from bloomery.corpus.streams import COMPRESSIONS

LINE_BYTES = 16 * 1024 * 1024
GROUP_BYTES = 32 * 1024 * 1024
_BLOCK_BYTES = 4 * 1024 * 1024
_WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


class FilePlan:
    """The spans of one file. Line ends and quotation marks are counted as far as spans have been asked for."""

    def __init__(self, file: SourceFile, config: CurateConfig) -> None:
        self.path = file.path
        self.kind = file.kind or format_of(file.path)
        self._utf8 = codecs.lookup(config.encoding).name == "utf-8"
        self._numbers = self.kind in (JSONL, TABLE)
        self._counts: list[tuple[int, int, int]] = [(0, 0, 0)]  # (position, line ends, quotation marks) before it

    def spans(self) -> Iterator[Span]:
        """In the file's order. A file that cannot be looked at is one span, so that its reader says why."""
        try:
            if self.kind == PARQUET:
                yield from plan(*self._groups())
                return
            size, step = self.path.stat().st_size, self._step()
        except OSError:
            yield Span()
            return
        for span in plan(size, step) if step else [Span()]:
            yield self._counted(span)

    def from_place(self, start: int, stop: int | None) -> Span:
        """A span that begins with the record at `start`."""
        return self._counted(Span(start, stop))

    def _step(self) -> int:
        """Bytes of a span, 0 where the file is not divided."""
        if self.kind == WEB:
            return REGION_BYTES
        if self.kind not in (JSONL, TABLE, SEQUENCE) or self.path.suffix.lower() in COMPRESSIONS:
            return 0
        if self.kind == SEQUENCE:
            return LINE_BYTES
        with self.path.open("rb") as stream:
            wide = stream.read(4).startswith(_WIDE_MARKS)
        return 0 if wide or not self._utf8 else LINE_BYTES

    def _groups(self) -> tuple[int, int]:
        """(row groups, how many make a span)."""
        import pyarrow
        from pyarrow.parquet import ParquetFile

        if self.path.suffix.lower() in COMPRESSIONS:
            return 0, 1
        try:
            with ParquetFile(self.path) as file:
                groups = file.num_row_groups
        except (pyarrow.ArrowException, OSError, ValueError):
            return 0, 1
        bytes_each = max(1, self.path.stat().st_size // max(1, groups))
        return groups, max(1, GROUP_BYTES // bytes_each)

    def _counted(self, span: Span) -> Span:
        if not span.start or not self._numbers:
            return span
        _, span.lines, span.quotes = self._count(span.start - 1)
        return span

    def _count(self, position: int) -> tuple[int, int, int]:
        place = bisect_right(self._counts, position, key=lambda count: count[0]) - 1
        at, lines, quotes = self._counts[place]
        try:
            with self.path.open("rb") as stream:
                stream.seek(at)
                while at < position and (block := stream.read(min(_BLOCK_BYTES, position - at))):
                    at += len(block)
                    lines += block.count(b"\n")
                    quotes += block.count(b'"') if self.kind == TABLE else 0
        except OSError:
            return at, lines, quotes
        if place == len(self._counts) - 1:
            self._counts.append((at, lines, quotes))
        return at, lines, quotes


def spans_of(files: Iterable[SourceFile], config: CurateConfig) -> Iterator[tuple[SourceFile, FilePlan, Span]]:
    """The spans of the files, in order."""
    for file in files:
        plan_of_file = FilePlan(file, config)
        for span in plan_of_file.spans():
            yield file, plan_of_file, span
