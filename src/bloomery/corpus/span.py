"""Span: the part of a file that one worker reads, and the plan by which files are divided.

A span goes from the first record that begins at or after `start` to the last that begins before `stop`. Where a record
begins can only be guessed from the middle of a file; so a reader says where it began and where the next span should,
and whoever joins spans compares the two (`reader_pool`). Plans follow the files alone, never the number of workers, so
that the documents are the same for any. This module does not know formats.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Span:
    """`start` and `stop` are offsets in bytes, or row groups of Parquet; `stop` None is the file's end.

    `sure` says that a record begins at `start`, so that nothing is searched. `lines` and `quotes` are counts of line
    ends and quotation marks before `start` less one byte: what readers of lines need to number them. The reader sets
    `begin`, where its first record begins (None: none does in the span), and `end`, where the first record at or after
    `stop` begins (None: the file ended).
    """

    start: int = 0
    stop: int | None = None
    sure: bool = True
    lines: int = 0
    quotes: int = 0
    begin: int | None = field(default=None, compare=False)
    end: int | None = field(default=None, compare=False)

    def wanted(self, expected: int | None) -> bool:
        """Not if the file has ended before it (None), or the span before it has read beyond it."""
        return expected is not None and (self.stop is None or expected < self.stop)

    def asked(self) -> dict[str, Any]:
        """What a reader is told, as plain data."""
        return {name: value for name, value in asdict(self).items() if name not in ("begin", "end")}


def plan(size: int, step: int) -> list[Span]:
    """Spans of about `step` over `size` bytes or row groups: one of all where there is not enough for two."""
    if size < 2 * step:
        return [Span()]
    starts = range(0, size - step // 2, step)
    stops: list[int | None] = [*starts[1:], None]
    return [Span(start, stop, sure=start == 0) for start, stop in zip(starts, stops, strict=True)]
