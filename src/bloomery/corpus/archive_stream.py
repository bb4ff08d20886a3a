"""ArchiveStream: the bytes of a WARC or ARC file with the place of every one of them, and a way on after damage.

Plain files, gzip members and zstd frames, by the file's first bytes; a zstd file may begin with its dictionary (the
skippable frame 0x184D2A5D of the IIPC's WARC-in-zstd note). A place is the offset of the member or frame in the file,
and the position inside of it once decompressed; in a plain file the position inside is always 0. This module does not
know what a record is: it is told by a pattern that matches where one begins.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

GZIP, ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_DICTIONARY = b"\x5d\x2a\x4d\x18"
_INPUT_BYTES = 256 * 1024
_ZSTD_INPUT_BYTES = 2 * 1024  # zstd has no limit on what one call returns; see streams
_OUTPUT_BYTES = 1024 * 1024
_BOMB_BYTES = 64 * 1024 * 1024
_DICTIONARY_BYTES = 16 * 1024 * 1024
_WINDOW_BYTES = 128 * 1024 * 1024
# No record's first line that a pattern has to see is longer than this.
_MARKER_BYTES = 4096
_GLANCE_BYTES = 2048
# Three bytes that look like a member's begin are met once in 16 MiB of noise: a file with so many is made to be slow.
_MISSES = 10_000


class Damage(Exception):
    """The stream cannot be read on from here; `reason` is truncated, damaged, decompression_bomb or trailing_bytes."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Place:
    """`offset` in the file, of the plain byte or of the member; `inside` the member, decompressed."""

    offset: int
    inside: int = 0

    def __str__(self) -> str:
        return f"offset {self.offset}+{self.inside}" if self.inside else f"offset {self.offset}"


class ArchiveStream:
    """See the module. OSError where the file cannot be read, Damage where its compression is broken."""

    def __init__(self, path: Path, *, start: int = 0, max_expansion: int = 200) -> None:
        self._file = path.open("rb")
        self._max_expansion = max_expansion
        head = self._file.read(4)
        self.compression = "gzip" if head[:3] == GZIP else "zstd" if head == ZSTD or _SKIPPABLE.match(head) else ""
        self._dictionary: Any = self._read_dictionary(head) if self.compression == "zstd" else None
        self._reset(start)

    _decoder: Any

    def _reset(self, offset: int) -> None:
        """Go on at an offset of the file; what was buffered is forgotten."""
        self._file.seek(offset)
        self._raw = b""
        self._buffer = bytearray()
        self._at = 0  # of the buffer's first byte, counted in decompressed bytes
        self._marks: deque[tuple[int, int]] = deque([(0, offset)] if not self.compression else [])
        self._decoder = None
        self._fed = self._made = 0  # bytes of this member, before and after
        self._failure: Damage | None = None

    def __enter__(self) -> ArchiveStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._file.close()

    @property
    def passed(self) -> int:
        """Decompressed bytes since the last `goto` or `seek`."""
        return self._at

    def place(self) -> Place:
        """Where the next byte stands."""
        while not self._buffer and self._fill():
            pass
        while len(self._marks) > 1 and self._marks[1][0] <= self._at:
            self._marks.popleft()
        if not self._marks:
            return Place(self._raw_offset())
        start, offset = self._marks[0]
        return Place(offset, self._at - start) if self.compression else Place(offset + self._at - start)

    def peek(self, size: int) -> bytes:
        """Up to `size` of the next bytes, fewer only at the end or before damage."""
        while len(self._buffer) < size and self._fill():
            pass
        return bytes(self._buffer[:size])

    def ended(self) -> bool:
        """No byte is left. Raises Damage if the end is not a sound one."""
        if self.peek(1):
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def take(self, size: int, *, keep: int) -> bytes:
        """Pass over `size` bytes and return the first `keep` of them; fewer come only at the end of the file.

        Raises Damage where the compression breaks before.
        """
        kept = bytearray()
        while size > 0:
            if not self._buffer and not self._fill():
                if self._failure is not None:
                    raise self._failure
                break
            step = min(size, len(self._buffer))
            if (room := keep - len(kept)) > 0:
                kept += self._buffer[: min(step, room)]
            self._advance(step)
            size -= step
        return bytes(kept)

    def _advance(self, size: int) -> None:
        del self._buffer[:size]
        self._at += size

    def goto(self, place: Place) -> None:
        """Go to a place that was met before. Raises Damage where it cannot be reached."""
        self._reset(place.offset)
        self.take(place.inside, keep=0)

    def find(self, marker: re.Pattern[bytes]) -> bool:
        """Go on to the next line that the marker matches; False, at the end, if there is none.

        Past damage in the compression, that is the next member that begins with it.
        """
        if self._failure is None and self._find_inside(marker, 1):
            return True
        if self._failure is None or not self.compression:
            return False
        member = self._marks[-1][1] if self._marks else self._raw_offset()
        return self.seek(member + 1, None, marker)

    def _find_inside(self, marker: re.Pattern[bytes], skip: int) -> bool:
        """In what is still to be decompressed, the line's end before it `skip` bytes away at least."""
        line = re.compile(rb"\n(?=" + marker.pattern + rb")")
        self._advance(min(skip, len(self.peek(skip))))
        while True:
            window = self.peek(_OUTPUT_BYTES)
            last = len(window) < _OUTPUT_BYTES
            border = len(window) if last else len(window) - _MARKER_BYTES
            found = line.search(window)
            if found is not None and found.start() < border:
                self._advance(found.end())
                return True
            self._advance(border)
            if last:
                return False

    def seek(self, start: int, stop: int | None, marker: re.Pattern[bytes]) -> bool:
        """Go to the first record at or after `start`; False if there is none before `stop` or the end.

        Compressed, that is a member which begins with the marker; plain, a line.
        """
        if not self.compression:
            self._reset(max(0, start - 1))
            if start == 0 and marker.match(self.peek(_MARKER_BYTES)):
                return True
            return self._find_inside(marker, 0) and (stop is None or self.place().offset < stop)
        magic = GZIP if self.compression == "gzip" else ZSTD
        offset, misses = start, 0
        while misses < _MISSES:
            self._file.seek(offset)
            block = self._file.read(_INPUT_BYTES)
            place = -1
            while (place := block.find(magic, place + 1)) >= 0 and misses < _MISSES:
                if stop is not None and offset + place >= stop:
                    return False
                if self._begins(offset + place, marker):
                    return True
                misses += 1
            if len(block) < _INPUT_BYTES or (stop is not None and offset >= stop):
                break
            offset += len(block) - len(magic) + 1
        self._reset(self._file.seek(0, 2))
        return False

    def _begins(self, offset: int, marker: re.Pattern[bytes]) -> bool:
        self._reset(offset)
        self._raw = self._file.read(_GLANCE_BYTES)
        return marker.match(self.peek(_MARKER_BYTES)) is not None and self._marks[0][1] == offset

    # What stands in the file

    def _raw_offset(self) -> int:
        return self._file.tell() - len(self._raw)

    def _more(self, size: int) -> bool:
        if not self._raw:
            self._raw = self._file.read(size)
        return bool(self._raw)

    def _fill(self) -> bool:
        """More decompressed bytes in the buffer; False at the end and at damage, which `_failure` then holds."""
        if self._failure is not None:
            return False
        if not self.compression:
            block = self._file.read(_OUTPUT_BYTES)
            self._buffer += block
            return bool(block)
        try:
            return self._fill_gzip() if self.compression == "gzip" else self._fill_zstd()
        except Damage as damage:
            self._failure = damage
        except (zlib.error, ValueError) as error:
            self._failure = Damage("damaged", str(error))
        return False

    def _fill_gzip(self) -> bool:
        if self._decoder is None:
            stripped = b""
            while not stripped and self._more(_INPUT_BYTES):  # members may be padded with zeros
                self._raw = stripped = self._raw.lstrip(b"\0")
            if not stripped:
                return False
            self._begin_member(GZIP, zlib.decompressobj(wbits=31))
        if not self._more(_INPUT_BYTES):
            raise Damage("truncated", "the gzip member ends too early")
        fed = len(self._raw)
        decoder: Any = self._decoder
        block = decoder.decompress(self._raw, _OUTPUT_BYTES)
        self._raw = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        self._account(fed - len(self._raw), block)
        return True

    def _fill_zstd(self) -> bool:
        import zstandard

        if self._decoder is None:
            if not self._more(_ZSTD_INPUT_BYTES):
                return False
            self._raw += self._file.read(max(0, 18 - len(self._raw)))
            if _SKIPPABLE.match(self._raw):
                if len(self._raw) < 8:
                    raise Damage("truncated", "a skippable frame ends too early")
                offset = self._raw_offset() + 8 + struct.unpack("<I", self._raw[4:8])[0]
                self._file.seek(offset)
                self._raw = b""
                return True
            self._begin_member(ZSTD, self._new_zstd())
        if not self._more(_ZSTD_INPUT_BYTES):
            raise Damage("truncated", "the zstd frame ends too early")
        data = self._raw
        decoder: Any = self._decoder
        try:
            block = decoder.decompress(data)
        except zstandard.ZstdError as error:
            raise Damage("damaged", str(error)) from error
        self._raw = decoder.unused_data if decoder.eof else b""
        self._account(len(data) - len(self._raw), block)
        return True

    def _begin_member(self, magic: bytes, decoder: Any) -> None:
        while len(self._raw) < len(magic) and (more := self._file.read(len(magic))):
            self._raw += more
        self._marks.append((self._at + len(self._buffer), self._raw_offset()))
        if not self._raw.startswith(magic):
            raise Damage("trailing_bytes", f"no {self.compression} member begins here")
        self._decoder, self._fed, self._made = decoder, 0, 0

    def _account(self, fed: int, block: bytes) -> None:
        self._fed += fed
        self._made += len(block)
        self._buffer += block
        if self._decoder.eof:
            self._decoder = None
        limit = max(_BOMB_BYTES, self._max_expansion * self._fed)
        if self._made > limit:
            raise Damage("decompression_bomb", f"a member of more than {limit:,} bytes; see max_expansion")

    def _new_zstd(self) -> Any:
        import zstandard

        try:
            wanted = zstandard.get_frame_parameters(self._raw[:18]).dict_id
        except zstandard.ZstdError:
            wanted = 0
        if wanted and (self._dictionary is None or self._dictionary.dict_id() != wanted):
            raise Damage("damaged", f"the frame needs the dictionary {wanted}, which the file does not begin with")
        options: dict[str, Any] = {"dict_data": self._dictionary} if self._dictionary is not None else {}
        return zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES, **options).decompressobj()

    def _read_dictionary(self, head: bytes) -> Any:
        import zstandard

        if head != _DICTIONARY:
            return None
        size = int.from_bytes(self._file.read(4), "little")
        if size > _DICTIONARY_BYTES:
            return None
        data = self._file.read(size)
        try:
            if data.startswith(ZSTD):
                decoder = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
                data = decoder.decompress(data, max_output_size=_DICTIONARY_BYTES)
            return zstandard.ZstdCompressionDict(data)
        except (zstandard.ZstdError, ValueError):
            return None
