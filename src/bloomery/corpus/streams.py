"""Streams: the bytes of a file, decompressed and turned into UTF-8, block by block.

gzip, zstd, xz and bzip2 by suffix, of any number of members. Damage and decompression bombs end a stream with
`BrokenStream`, after everything before them has been given. This module does not know what the bytes mean.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bloomery.corpus.span import Span

COMPRESSIONS = (".gz", ".zst", ".xz", ".bz2")
# zstd has no limit on what one call returns: 2 KiB of it cannot grow beyond 64 MiB (blocks of 128 KiB, 4 bytes each).
_INPUT_BYTES = 256 * 1024
_ZSTD_INPUT_BYTES = 2 * 1024
_OUTPUT_BYTES = 1024 * 1024
_BOMB_BYTES = 64 * 1024 * 1024
# xz -9 needs 65 MiB to decompress; a hostile header could ask for 4 GiB.
_XZ_MEMORY_BYTES = 256 * 1024 * 1024
_FIRST_BLOCK_BYTES = 8 * 1024
_BINARY_SHARE = 0.3
REPLACEMENT = "\ufffd"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class BrokenStream(Exception):
    """The stream cannot be read on. `reason` is one of unreadable, truncated, damaged, decompression_bomb, binary."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def read_blocks(path: Path, *, max_expansion: int, suffix: str = "", start: int = 0) -> Iterator[bytes]:
    """The file's bytes from `start` on, decompressed if its suffix (or the one given) says so. Raises BrokenStream."""
    suffix = suffix or path.suffix.lower()
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            if suffix not in COMPRESSIONS:
                while block := stream.read(_OUTPUT_BYTES):
                    yield block
                return
            limit = max(_BOMB_BYTES, max_expansion * path.stat().st_size)
            produced = 0
            for block in _decompressed(stream, suffix):
                produced += len(block)
                if produced > limit:
                    raise BrokenStream("decompression_bomb", f"more than {limit:,} bytes; see max_expansion")
                yield block
    except OSError as error:
        raise BrokenStream("unreadable", error.strerror or str(error)) from error


def span_blocks(path: Path, span: Span) -> Iterator[bytes]:
    """The bytes of a plain file from the first line that begins in the span to the end of the last.

    Sets `span.begin` and `span.end`. Raises BrokenStream.
    """
    stop = span.stop
    try:
        with path.open("rb") as stream:
            position = stream.seek(max(0, span.start - 1))
            if span.start:
                line = b""
                while not line.endswith(b"\n") and (line := stream.readline(_OUTPUT_BYTES)):
                    position += len(line)
            if (stop is not None and position >= stop) or not stream.peek(1):
                return
            span.begin = position
            while block := stream.read(_OUTPUT_BYTES):
                border = (
                    -1
                    if stop is None or position + len(block) < stop
                    else block.find(b"\n", max(0, stop - 1 - position))
                )
                if border >= 0:
                    span.end = position + border + 1
                    yield block[: border + 1]
                    if span.end == path.stat().st_size:
                        span.end = None
                    return
                position += len(block)
                yield block
    except OSError as error:
        raise BrokenStream("unreadable", error.strerror or str(error)) from error


def _decompressed(stream: BinaryIO, suffix: str) -> Iterator[bytes]:
    import zstandard

    new, step = _decoders(suffix)
    decoder: Any = None
    data = stream.read(step)
    if data.startswith(b"\0"):  # where a disk lost what was written, not an empty file
        raise BrokenStream("damaged", f"it begins with zeros and is no {suffix[1:]} file")
    try:
        while True:
            if decoder is None:
                data = (data or stream.read(step)).lstrip(b"\0")  # gzip and xz may be padded with zeros
                if not data:
                    if not (data := stream.read(step)):
                        return
                    continue
                decoder = new()
            ended = False
            if not data:
                data = stream.read(step)
                ended = not data
            block = decoder.decompress(data) if suffix == ".zst" else decoder.decompress(data, _OUTPUT_BYTES)
            if block:
                yield block
            if decoder.eof:
                data, decoder = decoder.unused_data, None
            elif ended and not block:
                raise BrokenStream("truncated", "the compressed file ends too early")
            else:
                data = decoder.unconsumed_tail if suffix == ".gz" else b""
                while suffix in (".xz", ".bz2") and not decoder.needs_input and not decoder.eof:
                    if block := decoder.decompress(b"", _OUTPUT_BYTES):
                        yield block
                if decoder.eof:
                    data, decoder = decoder.unused_data, None
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError, ValueError) as error:
        raise BrokenStream("damaged", str(error)) from error
    except OSError as error:
        if error.errno is None:  # bz2's own complaint about its data
            raise BrokenStream("damaged", str(error)) from error
        raise


def _decoders(suffix: str) -> tuple[Callable[[], Any], int]:
    """A maker of decompressor objects, one for each member of a file, and how many bytes to feed at a time."""
    import zstandard

    if suffix == ".gz":
        return lambda: zlib.decompressobj(wbits=31), _INPUT_BYTES
    if suffix == ".xz":
        return lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES), _INPUT_BYTES
    if suffix == ".bz2":
        return bz2.BZ2Decompressor, _INPUT_BYTES
    return lambda: zstandard.ZstdDecompressor().decompressobj(), _ZSTD_INPUT_BYTES


def as_utf8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The text's bytes as UTF-8, without byte-order mark.

    A mark decides the encoding, else `encoding` does. What is invalid in another encoding becomes the byte FF, which
    is invalid in UTF-8 too, so that `decode` counts it. Raises BrokenStream("binary") when the first 8 KiB hold a NUL
    or more than 30% of their bytes are invalid.
    """
    blocks = iter(blocks)
    first = b""
    failure: BrokenStream | None = None
    try:
        while len(first) < _FIRST_BLOCK_BYTES and (block := next(blocks, b"")):
            first += block
    except BrokenStream as error:
        failure = error
    for mark, name in _BOMS:
        if first.startswith(mark):
            first, encoding = first[len(mark) :], name
            break
    if codecs.lookup(encoding).name == "utf-8":
        _refuse_binary(first[:_FIRST_BLOCK_BYTES])
        yield first
        yield from blocks if failure is None else ()
    else:
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        head = _marked(decoder.decode(first))
        _refuse_binary(head[:_FIRST_BLOCK_BYTES])
        yield head
        for block in blocks if failure is None else ():
            yield _marked(decoder.decode(block))
        yield _marked(decoder.decode(b"", final=True))
    if failure is not None:
        raise failure


def _marked(text: str) -> bytes:
    return text.encode("utf-8", "replace").replace(REPLACEMENT.encode(), b"\xff")


def _refuse_binary(block: bytes) -> None:
    if b"\0" in block:
        raise BrokenStream("binary", "it holds NUL bytes")
    _, invalid, _ = decode(block)
    if invalid > max(4, _BINARY_SHARE * len(block)):  # 4: the block may end inside a character
        raise BrokenStream("binary", "many bytes are not valid text; if it is text, set encoding")


def decode(data: bytes) -> tuple[str, int, int]:
    """(text, how many invalid places were replaced by U+FFFD, the line of the first, from 1, or 0) of UTF-8 bytes."""
    try:
        return data.decode(), 0, 0
    except UnicodeDecodeError as error:
        text = data.decode("utf-8", "replace")
        invalid = text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())
        return text, invalid, data.count(b"\n", 0, error.start) + 1


def lines(blocks: Iterable[bytes], *, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    r"""(number from 1, line without its \n), None for a line of more than `max_bytes`, which is never held whole.

    If the stream breaks, an unfinished last line is left out and BrokenStream raised.
    """
    for number, _, line in placed_lines(blocks, max_bytes=max_bytes):
        yield number, line


def placed_lines(
    blocks: Iterable[bytes], *, max_bytes: int, number: int = 1, offset: int = 0
) -> Iterator[tuple[int, int, bytes | None]]:
    """As `lines`, with the offset at which each line begins; number and offset of the first are given."""
    rest = bytearray()
    too_long = False
    begins = offset
    for block in blocks:
        start = 0
        while (end := block.find(b"\n", start)) >= 0:
            rest += block[start:end]
            yield number, begins, None if too_long or len(rest) > max_bytes else bytes(rest)
            rest.clear()
            number, start, too_long = number + 1, end + 1, False
            begins = offset + start
        if not too_long:
            rest += block[start:]
            if len(rest) > max_bytes:
                rest.clear()
                too_long = True
        offset += len(block)
    if rest or too_long:
        yield number, begins, None if too_long else bytes(rest)
