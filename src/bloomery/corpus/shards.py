"""Shards: documents in zstd-compressed JSONL files, one object {id, text, source, metadata} a line.

A split's shards are `train-00000.jsonl.zst`, `train-00001.jsonl.zst`, ...; a new one begins when the last holds
enough. Equal documents give equal bytes. This module does not know where documents come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.corpus.document import Document
from bloomery.corpus.split import SPLITS
from bloomery.corpus.streams import BrokenStream, lines, read_blocks

DROPPED_FILE = "dropped.jsonl.zst"
# Level 3 reads and writes at more than 100 MB/s; a corpus is written once and read a few times.
_LEVEL = 3
# Our own shards are no bombs: curate has bounded every document in them.
_UNLIMITED = 1 << 60


class LineWriter:
    """Writes JSON lines to one zstd file. `bytes` counts them before compression."""

    def __init__(self, path: Path, *, level: int = _LEVEL) -> None:
        import zstandard

        self.bytes = 0
        self._file = path.open("wb")
        self._stream = zstandard.ZstdCompressor(level=level, write_checksum=True).stream_writer(
            self._file, closefd=True
        )

    def write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
        self._stream.write(line + b"\n")
        self.bytes += len(line) + 1

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> LineWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        try:
            self.close()
        except OSError:
            if error is None:  # a full disk fails again at closing: the first error is the one to tell
                raise


class SplitWriter:
    """Writes one split's documents into a folder, a new shard whenever one has `shard_bytes` (uncompressed).

    `documents` and `text_bytes` (UTF-8 bytes of the texts) count what was written. No document, no shard.
    """

    def __init__(self, folder: Path, split: str, *, shard_bytes: int, level: int = _LEVEL) -> None:
        self.documents = 0
        self.text_bytes = 0
        self._folder, self._split, self._shard_bytes, self._level = folder, split, shard_bytes, level
        self._shard: LineWriter | None = None
        self._shards = 0

    def write(self, document: Document) -> None:
        if self._shard is not None and self._shard.bytes >= self._shard_bytes:
            self._shard.close()
            self._shard = None
        if self._shard is None:
            self._shard = LineWriter(self._folder / f"{self._split}-{self._shards:05}.jsonl.zst", level=self._level)
            self._shards += 1
        row = {"id": document.id, "text": document.text, "source": document.source, "metadata": document.metadata}
        self._shard.write(row)
        self.documents += 1
        self.text_bytes += len(document.text.encode())

    def close(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        try:
            self.close()
        except OSError:
            if error is None:
                raise


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of one zstd file, streamed. DataError naming file and line if it is damaged."""
    number = 0
    try:
        for number, line in lines(read_blocks(path, max_expansion=_UNLIMITED), max_bytes=_UNLIMITED):  # noqa: B007
            yield json.loads(line or b"")
    except (BrokenStream, ValueError) as error:
        raise DataError(
            f"{path}, line {number + 1}: cannot read the shard: {error}",
            hint="restore it from a copy, or run `bloomery curate` again",
        ) from error


def read_folder(folder: Path, split: str) -> Iterator[Document]:
    """The documents of a split's shards in a folder, in the order in which they were written."""
    for path in sorted(folder.glob(f"{split}-*.jsonl.zst")):
        for row in read_lines(path):
            try:
                yield Document(row["id"], row["text"], row["source"], row["metadata"])
            except (KeyError, TypeError) as error:
                raise DataError(f"{path} is not a shard of documents: {error}") from error


def read_documents(corpus: Artifact, split: str) -> Iterator[Document]:
    """The documents of a corpus's split ("train", "validation" or "test"), streamed in a fixed order.

    ConfigError for another split; DataError for a damaged shard.
    """
    if corpus.kind != "corpus":
        raise ConfigError(f"{corpus.name} is a {corpus.kind}, not a corpus", hint="give what curate returned")
    if split not in SPLITS:
        raise ConfigError(f'a corpus has no split "{split}"', hint=nearest(split, SPLITS))
    return read_folder(corpus.path, split)
