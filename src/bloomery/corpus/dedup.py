"""Exact deduplication with memory that does not grow with the corpus.

The digests seen so far (of `content_digest`) lie in an SQLite file of the run's scratch folder, behind a bounded page
cache. This module does not know documents: it is told 16 bytes and says whether, or by whom, it has been told them
before.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

_CACHE_KIB = 32 * 1024
_DIGEST_BYTES = 16  # 128 bits: a chance of 1e-15 that any two of a trillion texts collide


class SeenDigests:
    """A set on disk. `add(digest)` is True the first time. An earlier file at the path is replaced."""

    _COLUMNS = "digest BLOB PRIMARY KEY"

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._connection = sqlite3.connect(path, isolation_level=None)
        # Nothing here outlives the run, so neither a journal nor syncing is worth its time.
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "locking_mode=EXCLUSIVE"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(f"CREATE TABLE seen ({self._COLUMNS}) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def add(self, digest: bytes) -> bool:
        return self._insert("INSERT OR IGNORE INTO seen VALUES (?)", (digest[:_DIGEST_BYTES],))

    def _insert(self, statement: str, values: tuple[bytes | str, ...]) -> bool:
        try:
            cursor = self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            # SQLite hides the cause, but with its own file and no journal only the disk can fail.
            code = errno.ENOSPC if "full" in str(error) else errno.EIO
            raise OSError(code, os.strerror(code)) from error
        return cursor.rowcount == 1

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self.close()


class FirstSeen(SeenDigests):
    """A map on disk. `first(digest, name)` is "" the first time, then the name that was given then."""

    _COLUMNS = "digest BLOB PRIMARY KEY, name TEXT"

    def first(self, digest: bytes, name: str) -> str:
        key = digest[:_DIGEST_BYTES]
        if self._insert("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, name)):
            return ""
        return self.find(key)

    def find(self, digest: bytes) -> str:
        """The name under which a digest was first given, "" if it was not."""
        row = self._connection.execute("SELECT name FROM seen WHERE digest = ?", (digest[:_DIGEST_BYTES],)).fetchone()
        return row[0] if row else ""
