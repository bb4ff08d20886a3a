"""Event stream: the data of server-sent events, out of bytes as they come from somebody who may be broken.

Lines end with LF, CRLF or CR, an event with an empty line, several `data` lines of one event are joined (WHATWG HTML,
"Server-sent events"); comments, names and numbers of events are passed over. This module does not know who sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bloomery.core.errors import DataError

MAX_EVENT_BYTES = 4 * 1024 * 1024


def events(blocks: Iterable[bytes], *, max_bytes: int = MAX_EVENT_BYTES) -> Iterator[str]:
    """The data of each event. A last one without its empty line is given too: some servers leave it out.

    DataError for an event longer than `max_bytes`.
    """
    data: list[str] = []
    size = 0
    for line in _lines(blocks, max_bytes):
        if not line:
            if data:
                yield "\n".join(data)
            data, size = [], 0
        elif line == b"data" or line.startswith(b"data:"):
            size += len(line)
            if size > max_bytes:
                raise DataError(f"an event is longer than {max_bytes:,} bytes")
            data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))
    if data:
        yield "\n".join(data)


def _lines(blocks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    kept = bytearray()
    after_return = False
    for block in blocks:
        if not block:
            continue
        begins = 1 if after_return and block.startswith(b"\n") else 0
        after_return = block.endswith(b"\r")
        block = block[begins:]
        kept += block
        if b"\n" in block or b"\r" in block:
            lines = bytes(kept).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            kept = bytearray(lines.pop())
            yield from lines
        if len(kept) > max_bytes:
            raise DataError(f"a line of the stream is longer than {max_bytes:,} bytes")
    if kept:
        yield bytes(kept)
