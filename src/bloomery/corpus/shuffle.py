"""Shuffle: rows in the order of random keys, with memory that does not grow with them.

A row's key is a keyed hash (BLAKE2b) of what names it, so the order is that of independent uniform numbers, a uniform
permutation, and depends on the rows and the seed alone: not on how they come in, nor on how much memory there is. Rows
are dealt to files by the beginnings of their keys, each file is sorted by itself, and one that is still too large is
dealt again. This module does not know what a row is.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

KEY_BYTES = 16
_HEAD = struct.Struct(f"<{KEY_BYTES}sI")
_FILES = 64  # open at once
_LEAST_ROWS = 2
_READ_BYTES = 1 << 20

Row = tuple[bytes, bytes]


def row_key(seed: int, name: bytes) -> bytes:
    """KEY_BYTES bytes that look random, of a seed (0 to 2**64) and a name."""
    return hashlib.blake2b(
        name, key=seed.to_bytes(8, "big"), digest_size=KEY_BYTES, person=b"bloomery shuffle"
    ).digest()


def shuffled(rows: Iterable[Row], folder: Path, *, size: int, bucket_bytes: int) -> Iterator[bytes]:
    """The contents of (key, content) rows, in the order of key and content.

    `size` is about how many bytes the contents have; about `bucket_bytes` of them are held at once, the others lie in
    `folder`, which should be empty and is again in the end.
    """
    yield from _sorted(rows, folder, size, bucket_bytes, 0, 1 << (8 * KEY_BYTES))


def _sorted(rows: Iterable[Row], folder: Path, size: int, bucket_bytes: int, low: int, high: int) -> Iterator[bytes]:
    """Rows whose keys are from `low` to below `high`."""
    parts = min(_FILES, -(-size // bucket_bytes), high - low)
    if parts < 2:
        for _, content in sorted(rows):
            yield content
        return
    span = high - low
    borders = [low + span * part // parts for part in range(parts + 1)]
    paths = [folder / f"{low:032x}-{span:x}-{part:02}" for part in range(parts)]
    sizes, counts = [0] * parts, [0] * parts
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb", buffering=_READ_BYTES // 4)) for path in paths]
        for key, content in rows:
            part = min(parts - 1, (int.from_bytes(key, "big") - low) * parts // span)
            files[part].write(_HEAD.pack(key, len(content)))
            files[part].write(content)
            sizes[part] += len(content)
            counts[part] += 1
    for part, path in enumerate(paths):
        with path.open("rb", buffering=_READ_BYTES) as stream:
            # A row that is larger than a bucket cannot be divided.
            room = bucket_bytes if counts[part] > _LEAST_ROWS else max(bucket_bytes, sizes[part])
            yield from _sorted(_rows(stream), folder, sizes[part], room, borders[part], borders[part + 1])
        path.unlink()


def _rows(stream: BinaryIO) -> Iterator[Row]:
    while head := stream.read(_HEAD.size):
        key, length = _HEAD.unpack(head)
        yield key, stream.read(length)
