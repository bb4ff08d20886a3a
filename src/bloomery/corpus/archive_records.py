"""Archive records: the records of a WARC or ARC file one by one, whatever is broken named with its place.

Framing is ours, since libraries pass over damage in silence: a record is its first line, its header and as many bytes
as the header says; where that does not fit together, the record is refused and reading goes on at the next place where
one begins. What a record's bytes mean is `web_records`'s business. ISO 28500 (WARC), ARC 1 and 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from bloomery.corpus.archive_stream import ArchiveStream, Damage, Place
from bloomery.corpus.span import Span

WARC_MARKER = re.compile(rb"WARC/[01]\.\d{1,2}[ \t]*\r?\n")
_URL = rb"[a-zA-Z][a-zA-Z0-9+.-]{0,30}:[^\n]{0,3000}"
ARC_MARKER = re.compile(rb"(?=" + _URL + rb" \d{12,18} )" + _URL + rb" \S{1,40} \d{12,18} [^\n]{1,900}\n")
_HEAD_BYTES = 64 * 1024
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,15})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_HEAD_END = re.compile(rb"\r?\n\r?\n")
REGION_BYTES = 8 * 1024 * 1024
"""Bytes of an archive that are one span."""
# A wrong length may have swallowed the next records: what follows it is read once more, up to this many bytes in all
# in a region, however the file is divided.
_AGAIN_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ArchiveRecord:
    """`head` is a WARC header with its blank line, or an ARC line; `block` what follows, of `size` bytes, of which no
    more than the reader's limit is kept."""

    place: Place
    head: bytes
    block: bytes
    size: int

    @property
    def whole(self) -> bool:
        return len(self.block) == self.size


class Refuse(Protocol):
    """Is told of what cannot be read."""

    def __call__(self, reason: str, place: Place, detail: str) -> None: ...


class _Broken(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_records(stream: ArchiveStream, span: Span, *, limit: int, refuse: Refuse) -> Iterator[ArchiveRecord]:
    """The records of a span, in order; sets `span.begin` and `span.end`."""
    reader = _Records(stream, span, limit, refuse)
    return reader.records()


class _Records:
    def __init__(self, stream: ArchiveStream, span: Span, limit: int, refuse: Refuse) -> None:
        self.stream, self.span, self.limit, self.refuse = stream, span, limit, refuse
        self.again, self.region = _AGAIN_BYTES, -1
        head = stream.peek(16)  # of the file's own begin: it was opened there
        self.is_arc = head.startswith(b"filedesc:") or (not head.startswith(b"WARC/") and self._looks_like_arc())
        self.marker = ARC_MARKER if self.is_arc else WARC_MARKER

    def _looks_like_arc(self) -> bool:
        return ARC_MARKER.match(self.stream.peek(4096)) is not None

    def records(self) -> Iterator[ArchiveRecord]:
        stream, span = self.stream, self.span
        if span.sure:
            if span.start:
                stream.goto(Place(span.start))
            span.begin = span.start
        elif stream.seek(span.start, span.stop, self.marker):
            span.begin = stream.place().offset
        else:
            return
        while True:
            place = stream.place()
            try:
                self._skip_blank()
                place = stream.place()
                if span.stop is not None and not place.inside and place.offset >= span.stop:
                    span.end = place.offset
                    return
                if stream.ended():
                    return
                record = self._record(place)
            except Damage as damage:
                self.refuse(damage.reason, place, damage.detail)
                record = None
            except _Broken as broken:
                self.refuse(broken.reason, place, broken.detail)
                record = None
            if record is not None:
                yield record
            elif not stream.find(self.marker):
                return

    def _skip_blank(self) -> None:
        """Over the line ends between records, but not into another member's."""
        while (ahead := self.stream.peek(256)) and (blank := len(ahead) - len(ahead.lstrip(b"\r\n"))):
            self.stream.take(blank, keep=0)

    def _record(self, place: Place) -> ArchiveRecord:
        stream = self.stream
        ahead = stream.peek(_HEAD_BYTES if not self.is_arc else 4096)
        if not self.marker.match(ahead):
            raise _Broken("not_a_record", f"no record begins here, but {ahead[:20]!r}")
        head, size = (_arc_head if self.is_arc else _warc_head)(ahead)
        stream.take(len(head), keep=0)
        before = stream.passed
        block = stream.take(size, keep=self.limit)
        if (there := stream.passed - before) < size:
            self._go_back(place, there)
            raise _Broken("truncated", f"{there:,} of {size:,} bytes are there")
        self._check_what_follows(place, size)
        return ArchiveRecord(place, head, block, size)

    def _check_what_follows(self, place: Place, size: int) -> None:
        self._skip_blank()
        ahead = self.stream.peek(4096)
        if not ahead or self.marker.match(ahead) or (self.stream.compression and not self.stream.place().inside):
            return
        self._go_back(place, size)
        raise _Broken("wrong_length", f"no record begins after its {size:,} bytes, but {ahead[:20]!r}")

    def _go_back(self, place: Place, size: int) -> None:
        if place.offset // REGION_BYTES != self.region:
            self.again, self.region = _AGAIN_BYTES, place.offset // REGION_BYTES
        self.again -= size + place.inside
        if self.again > 0:
            self.stream.goto(place)
        else:  # too dear: no more is lost than the rest of its region
            self.stream.goto(Place((self.region + 1) * REGION_BYTES - 1))


def _warc_head(ahead: bytes) -> tuple[bytes, int]:
    end = _HEAD_END.search(ahead)
    if end is None:
        if len(ahead) < _HEAD_BYTES:
            raise _Broken("truncated", "the file ends in its header")
        raise _Broken("broken_header", f"its header is longer than {_HEAD_BYTES:,} bytes")
    head = ahead[: end.end()]
    length = _LENGTH.search(head)
    if length is None:
        raise _Broken("broken_header", "no Content-Length that is a number")
    return head, int(length[1])


def _arc_head(ahead: bytes) -> tuple[bytes, int]:
    head = ahead[: ahead.index(b"\n") + 1]
    length = head.rsplit(b" ", 1)[-1].strip()
    if not length.isdigit() or len(length) > 15:
        raise _Broken("broken_header", f"its length is {length[:20].decode('ascii', 'replace')!r}")
    return head, int(length)
