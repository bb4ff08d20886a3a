"""Database: one SQLite file with numbered migrations, for several threads and processes.

WAL and a busy timeout let several processes write at once; writing is one transaction, whole or not at all. WAL needs
memory that processes share, which those of several machines do not: where other machines may have the file open, too,
it is SQLite's rollback journal (sqlite.org/wal.html; the file system's locks then have to be sound). What cannot be
written is read alone. Trouble with the file is an ArtifactError with a hint. This module does not know any table.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bloomery.core.errors import ArtifactError
from bloomery.core.file_system import on_network
from bloomery.core.quantity import Quantity

JOULES = "joules_low REAL, joules REAL, joules_high REAL, method TEXT NOT NULL"
"""The columns of a `Quantity`."""
_BUSY_SECONDS = 30.0


class Database:
    """Thread-safe handle; opening creates or migrates the file. `name` is what it is called in errors."""

    may_be_read_alone = False
    """Whether opening a file that cannot be written, or its folder, is no error: it is then `read_only`."""

    def __init__(self, path: Path, migrations: Sequence[Sequence[str]], *, name: str) -> None:
        self.path = path
        self._name = name
        self._lock = threading.RLock()
        writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        self.read_only = self.may_be_read_alone and path.is_file() and not writable
        try:
            if self.read_only:
                self._db = _opened_to_read(path)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = _connected(path)
                self._use_journal("DELETE" if on_network(path.parent) else "WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
            self._db.row_factory = sqlite3.Row
            self._migrate(migrations)
        except OSError as error:
            from bloomery.core.artifact import as_artifact_error

            raise as_artifact_error(error, f"cannot open the {name}") from error
        except sqlite3.Error as error:
            raise self._error(error) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _use_journal(self, mode: str) -> None:
        """Wait for our turn ourselves: when two processes open a new file at once, SQLite skips its busy timeout."""
        limit = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute(f"PRAGMA journal_mode={mode}")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > limit:
                    raise
                time.sleep(0.005)

    def _migrate(self, migrations: Sequence[Sequence[str]]) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(migrations):
            raise ArtifactError(f"{self.path} was written by a newer bloomery", hint="upgrade bloomery")
        if version == len(migrations):
            return
        with self._writing() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]  # another process may have done it
            for number, statements in enumerate(migrations[version:], start=version + 1):
                for statement in statements:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:  # a full disk has made SQLite roll back by itself
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._error(error) from error

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with self._lock:
            try:
                return [dict(row) for row in self._db.execute(query, parameters)]
            except sqlite3.Error as error:
                raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> ArtifactError:
        text = str(error)
        hint = ""
        if "full" in text:
            hint = "the disk is full: free some space and run the same command again"
        elif "disk I/O" in text:
            hint = "the disk may be full or broken, or the file as large as files may be"
        elif "readonly" in text or "unable to open" in text:
            hint = "choose a folder that you may write to: --home DIR or BLOOMERY_HOME"
        elif "malformed" in text or "not a database" in text:
            hint = "the file is damaged: move it away and a new one is begun; artifacts keep their own manifests"
        return ArtifactError(f"{self._name} {self.path}: {text}", hint=hint)


def _connected(database: str | Path, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(database, uri=uri, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)


def _opened_to_read(path: Path) -> sqlite3.Connection:
    """As others see it while they write. Where that would take files beside it, which nobody can make, and there are
    none, it is read as it lies there at this moment (sqlite.org/wal.html, "read-only databases")."""
    db = _connected(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        db.execute("PRAGMA schema_version")
    except sqlite3.OperationalError as error:
        db.close()
        left = [path.with_name(path.name + end) for end in ("-journal", "-wal")]
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN or any(map(_has_anything, left)):
            raise
        db = _connected(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    return db


def _has_anything(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def is_full(error: BaseException | None) -> bool:
    """Whether SQLite has found no room on the disk (sqlite.org/rescode.html)."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def quantity_columns(quantity: Quantity) -> tuple[float | None, float | None, float | None, str]:
    """The values of `JOULES`."""
    return (quantity.low, quantity.central, quantity.high, quantity.method)


def quantity_of(row: Mapping[str, Any]) -> Quantity:
    """The quantity of a row with the columns `JOULES`."""
    if row["method"] in (None, "unknown"):
        return Quantity.unknown()
    return Quantity(low=row["joules_low"], central=row["joules"], high=row["joules_high"], method=row["method"])


def without_joules(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("joules_low", "joules", "joules_high", "method")}
