"""Reading log: what a source gave, kept in order while it is read, so that a run that is killed goes on from there.

The log is cut into pieces: zstd files of JSON lines, one batch of records a line, the last line saying where reading
goes on. A piece is written beside its place, flushed to disk and renamed to a name that holds its SHA-256: it is there
whole or not at all, and one that is damaged ends the log before it. The folder belongs to one stage key, so what is
kept is of these very sources and this config. This module does not know readers, only places in their work.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.core.artifact import fsync, sha256_file
from bloomery.corpus.streams import lines, read_blocks

# A piece ends after so many bytes (before compression) or seconds, at the next place from which reading can go on.
_PIECE_BYTES = 16 * 1024 * 1024
_PIECE_SECONDS = 5.0
_UNLIMITED = 1 << 60
_HASH_DIGITS = 16


@dataclass(frozen=True)
class Place:
    """Where reading goes on: the spans before number `span` have been told whole, and the next one begins at
    `expected` (None: its file has ended). Where `at` says how that one was asked for, so much of it has been told:
    what came before its page number `page`, or its first `items` items."""

    span: int = 0
    expected: int | None = 0
    page: int | None = None
    items: int = 0
    at: dict[str, Any] | None = None

    def within(self, at: dict[str, Any], *, page: int | None = None, items: int = 0) -> Place:
        """This place, but so far into its span."""
        return replace(self, at=at, page=page, items=items)


class ReadingLog:
    """See the module. `place` is where the kept pieces end; `replay()` gives what is in them; then `add` what follows,
    saying where one could go on (`settle`), and `close` it when the source has ended."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._pieces: list[Path] = []
        self.piece_bytes, self.piece_seconds = _PIECE_BYTES, _PIECE_SECONDS
        self.place, self.ended = Place(), False
        self._find()
        self._stream: Any = None
        self._bytes, self._began = 0, 0.0

    def _find(self) -> None:
        """The pieces that are sound, in order; what is behind the first that is not, is removed."""
        files = sorted(self._folder.iterdir())
        for path in files:
            number, _, rest = path.name.partition("-")
            sound = number == f"{len(self._pieces):06}" and sha256_file(path)[:_HASH_DIGITS] == rest.partition(".")[0]
            if sound and not self.ended:
                *_, last = _lines(path)
                _, place, self.ended = json.loads(last)
                self.place = Place(**place)
                self._pieces.append(path)
            else:
                path.unlink()

    @property
    def pieces(self) -> int:
        return len(self._pieces)

    def replay(self) -> Iterator[list[Any]]:
        """Every batch that was added, as it was."""
        for path in self._pieces[:]:
            for line in _lines(path):
                batch = json.loads(line)
                if batch[0] == "items":
                    yield batch

    def add(self, frame: bytes) -> None:
        """A batch: JSON in one line."""
        self._open().write(frame + b"\n")
        self._bytes += len(frame)

    def settle(self, place: Place, *, ended: bool = False) -> None:
        """Everything before this place has been added. A piece that is large or old enough ends here."""
        self.place = place
        if self._stream is None and not ended:
            return
        stream = self._open()
        late = time.monotonic() - self._began >= self.piece_seconds
        if not (ended or late or self._bytes >= self.piece_bytes):
            return
        stream.write(json.dumps(["place", asdict(place), ended]).encode() + b"\n")
        stream.close()
        self._stream, self.ended = None, ended
        half = self._half()
        fsync(half)
        piece = self._folder / f"{len(self._pieces):06}-{sha256_file(half)[:_HASH_DIGITS]}.jsonl.zst"
        half.rename(piece)
        fsync(self._folder)
        self._pieces.append(piece)

    def _open(self) -> Any:
        """The piece that is being written."""
        if self._stream is not None:
            return self._stream
        import zstandard

        file = self._half().open("wb")
        self._stream = zstandard.ZstdCompressor(level=1, write_checksum=True).stream_writer(file, closefd=True)
        self._bytes, self._began = 0, time.monotonic()
        return self._stream

    def _half(self) -> Path:
        return self._folder / f"half-{os.getpid()}"

    def close(self) -> None:
        """Leave the log; what was added since the last piece is forgotten."""
        if self._stream is not None:
            self._stream.close()
            self._half().unlink(missing_ok=True)
            self._stream = None

    def __enter__(self) -> ReadingLog:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except OSError:
            return  # a full disk fails again at closing: the first error is the one to tell


def _lines(path: Path) -> Iterator[bytes]:
    for _, line in lines(read_blocks(path, max_expansion=_UNLIMITED, suffix=".zst"), max_bytes=_UNLIMITED):
        yield line or b""
