"""Schema: the tables of an index, and what one commit of it holds.

One SQLite file has documents, chunks, postings and which rows are dead; vectors lie in a file beside it, row by row
(see `vector_file`), and count only as far as this file says: a process that is killed at any instant leaves an index
as it was after its last commit. This module does not know how anything is searched.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.database import Database
from bloomery.core.errors import ArtifactError

FILE = "index.sqlite"
EMBEDDER = "embedder"
"""The fact that holds the name of what the vectors were made with: it stands for weights and pooling."""
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE documents (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, origin TEXT NOT NULL,"
        " source TEXT NOT NULL, digest BLOB NOT NULL, metadata TEXT NOT NULL, characters INTEGER NOT NULL,"
        " text BLOB NOT NULL)",
        "CREATE INDEX documents_by_origin ON documents(origin)",
        "CREATE TABLE chunks (row INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents(number),"
        " id TEXT NOT NULL, first INTEGER NOT NULL, past INTEGER NOT NULL, heading TEXT NOT NULL, text TEXT NOT NULL,"
        " terms INTEGER NOT NULL)",
        "CREATE INDEX chunks_by_document ON chunks(document)",
        "CREATE TABLE dead (row INTEGER PRIMARY KEY, version INTEGER NOT NULL)",
        "CREATE INDEX dead_by_version ON dead(version)",
        "CREATE TABLE fields (name TEXT NOT NULL, value TEXT NOT NULL, document INTEGER NOT NULL,"
        " PRIMARY KEY (name, value, document)) WITHOUT ROWID",
        "CREATE INDEX fields_by_document ON fields(document)",
        "CREATE TABLE segments (number INTEGER PRIMARY KEY, level INTEGER NOT NULL)",
        "CREATE TABLE postings (term TEXT NOT NULL, segment INTEGER NOT NULL, chunks BLOB NOT NULL,"
        " times BLOB NOT NULL)",
        "CREATE INDEX postings_by_term ON postings(term, segment)",
        "CREATE INDEX postings_by_segment ON postings(segment)",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Where an index is: raised by commits."""

    version: int = 0
    """By every commit that changes what is found."""
    generation: int = 0
    """By compaction, which numbers rows anew."""
    rows: int = 0
    """Rows given out so far, dead ones too; as many vectors count."""


@dataclass(frozen=True, kw_only=True)
class NewChunk:
    id: str
    start: int
    end: int
    heading: str
    text: str


@dataclass(frozen=True, kw_only=True)
class NewDocument:
    """A document as it goes in, its chunks in their order."""

    id: str
    origin: str
    source: str
    digest: bytes
    metadata: Mapping[str, Any]
    text: str
    chunks: Sequence[NewChunk] = field(default_factory=tuple)


class Tables(Database):
    """The SQLite file of an index. Thread-safe; for readers and one writer at a time (see `Writer`)."""

    may_be_read_alone = True

    def __init__(self, folder: Path, *, create: bool) -> None:
        path = folder / FILE
        if not create and not path.is_file():
            raise ArtifactError(f"no index in {folder}", hint="bloomery index PATHS --into NAME makes one")
        super().__init__(path, MIGRATIONS, name="index")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """All that is read within is of one commit, whatever others write meanwhile."""
        with self._lock:
            try:
                self._db.execute("BEGIN")
                try:
                    yield self._db
                finally:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise self._error(error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One commit: all of it or nothing."""
        with self._writing() as db:
            yield db

    def copy_over(self, other: Tables) -> None:
        """Everything in place of what another file holds, as one commit of that file."""
        with self._lock, other._lock:
            try:
                self._db.backup(other._db)
            except sqlite3.Error as error:
                raise other._error(error) from error

    def vacuum(self) -> None:
        """Free pages back to the disk; left undone where another process is in the way, for nothing depends on it."""
        with self._lock, suppress(sqlite3.OperationalError):
            self._db.execute("VACUUM")


def read_counters(db: sqlite3.Connection) -> Counters:
    told = read_fact(db, "counters")
    return Counters(**told) if told else Counters()


def read_fact(db: sqlite3.Connection, name: str) -> Any:
    """A fact as JSON data, or None."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return json.loads(row[0]) if row else None


def write_fact(db: sqlite3.Connection, name: str, value: Any) -> None:
    db.execute(
        "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, json.dumps(value, sort_keys=True)),
    )


def field_values(value: Any) -> list[str]:
    """A metadata value as filters compare it: JSON text; a list stands for each of its members."""
    members = value if isinstance(value, list | tuple) else [value]
    return sorted({json.dumps(one, sort_keys=True, ensure_ascii=False) for one in members if one is not None})


def as_rows(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i4")


def as_counts(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<u2")
