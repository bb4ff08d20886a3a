"""Writer: what changes an index. One at a time, by a lock that dies with its process; readers go on meanwhile.

A batch is one commit: its vectors are on disk before the commit that makes them count. This module does not know where
documents come from, how they were cut, nor what made the vectors.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ArtifactError, DataError
from bloomery.core.locks import FileLock
from bloomery.retrieve.chunk import Filters
from bloomery.retrieve.store.config import IndexConfig, require_embedder, require_same
from bloomery.retrieve.store.filters import DOCUMENT, SOURCE, matching
from bloomery.retrieve.store.graph import can_graph, graph_path, grow
from bloomery.retrieve.store.lexical import rewrite_segments, write_segment
from bloomery.retrieve.store.schema import (
    EMBEDDER,
    Counters,
    NewDocument,
    Tables,
    field_values,
    read_counters,
    read_fact,
    write_fact,
)
from bloomery.retrieve.store.terms import Terms
from bloomery.retrieve.store.vector_file import VectorFile

LOCK = "writer.lock"
OF_GENERATION = re.compile(r"(?:vectors|graph)-\d{6,}\.(?:raw|usearch)(?:\.\d+)?")
"""Names of files that belong to a generation, those that a process is still writing too."""
_MAX_FIELD_CHARACTERS = 400
"""A longer value of metadata is a text: it is kept, and not filtered by."""
_PAGE = 4096


class Writer:
    """See the module. Opening it makes the folder where there is none. ArtifactError where another process writes."""

    def __init__(self, folder: Path, config: IndexConfig | None = None, *, begin: Counters | None = None) -> None:
        """`config` None takes that of the index; ConfigError where it is another one, unless nothing was ever put in.
        `begin` is where a new index counts from."""
        self.folder = folder
        if config is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / LOCK)
        if not self._lock.try_acquire():
            raise busy(folder)
        try:
            self._tables = Tables(folder, create=config is not None)
            self.config = self._settle(config, begin or Counters())
            self._terms = Terms(self.config.words)
        except BaseException:
            self._lock.release()
            raise

    def _settle(self, config: IndexConfig | None, begin: Counters) -> IndexConfig:
        with self._tables.reading() as db:
            told, counters = read_fact(db, "config"), read_counters(db)
        if told is None or (config is not None and counters == Counters()):  # begun by a run that was killed, at most
            if config is None:
                raise ArtifactError(
                    f"the index in {self.folder} was never begun", hint="bloomery index PATHS --into it"
                )
            with self._tables.writing() as db:
                write_fact(db, "config", to_dict(config))
                write_fact(db, "counters", to_dict(begin))
            return config
        return require_same(config, from_dict(IndexConfig, told, where="index"), str(self.folder))

    def close(self) -> None:
        self._tables.close()
        self._terms.close()
        self._lock.release()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def use_embedder(self, name: str) -> None:
        """What makes the vectors, by its name. ConfigError where those that are there are another one's."""
        with self._tables.reading() as db:
            known, counters = read_fact(db, EMBEDDER), read_counters(db)
        require_embedder(name, known, str(self.folder))
        if known is None and not counters.rows:  # vectors without a name stay without one
            with self._tables.writing() as db:
                write_fact(db, EMBEDDER, name)

    @property
    def is_empty(self) -> bool:
        """Whether no document is in it."""
        with self._tables.reading() as db:
            return db.execute("SELECT 1 FROM documents LIMIT 1").fetchone() is None

    def known(self, origin: str) -> dict[str, tuple[bytes, str]]:
        """(digest, metadata as JSON) of each document of an origin, by id."""
        with self._tables.reading() as db:
            found = db.execute("SELECT id, digest, metadata FROM documents WHERE origin = ?", (origin,))
            return {row[0]: (row[1], row[2]) for row in found}

    def digest_of(self, document_id: str) -> tuple[bytes, str] | None:
        """(digest, metadata as JSON) of a document, whatever its origin."""
        with self._tables.reading() as db:
            row = db.execute("SELECT digest, metadata FROM documents WHERE id = ?", (document_id,)).fetchone()
            return (row[0], row[1]) if row else None

    def sources(self, origin: str) -> dict[str, str]:
        """The source of each document of an origin, by id."""
        with self._tables.reading() as db:
            return {
                row[0]: row[1] for row in db.execute("SELECT id, source FROM documents WHERE origin = ?", (origin,))
            }

    def put(self, documents: Sequence[NewDocument], vectors: np.ndarray | None = None) -> int:
        """Documents in, those of the same ids replaced; one commit. `vectors` float32 (chunks, E), in the order of the
        documents' chunks, where the index has an embedder. Returns how many were replaced."""
        chunks = [chunk for document in documents for chunk in document.chunks]
        if (vectors is None) != (not self.config.embedder) or (vectors is not None and len(vectors) != len(chunks)):
            raise DataError("an index with an embedder has one vector for each chunk, another has none")
        postings, lengths = self._terms.count([f"{one.heading}\n{one.text}" for one in chunks])
        with self._tables.reading() as db:
            counters, dimension = read_counters(db), read_fact(db, "dimension")
        if vectors is not None and len(vectors):
            if dimension not in (None, vectors.shape[1]):
                raise DataError(f"vectors of {vectors.shape[1]} numbers do not fit an index of {dimension}")
            self._vectors(counters, vectors.shape[1]).write(counters.rows, vectors)
        with self._tables.writing() as db:
            version = counters.version + 1
            replaced = sum(_remove(db, number, version) for number in _numbers(db, [one.id for one in documents]))
            row, press = counters.rows, zstandard.ZstdCompressor(level=3)
            for document in documents:
                number = _insert(db, document, press)
                db.executemany(
                    "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        (
                            *(row + place, number, one.id, one.start, one.end, one.heading, one.text),
                            int(lengths[row - counters.rows + place]),
                        )
                        for place, one in enumerate(document.chunks)
                    ),
                )
                row += len(document.chunks)
            if chunks:
                write_segment(db, postings, counters.rows)
            if vectors is not None and len(vectors):
                write_fact(db, "dimension", int(vectors.shape[1]))
            write_fact(db, "counters", to_dict(replace(counters, version=version, rows=row)))
        return replaced

    def describe(self, document_id: str, source: str, metadata: Mapping[str, Any], origin: str) -> bool:
        """Other metadata, source and origin of a document whose text stays. Returns whether they are others."""
        told = _json(metadata)
        with self._tables.reading() as db:
            query = "SELECT number, source, metadata, origin FROM documents WHERE id = ?"
            row = db.execute(query, (document_id,)).fetchone()
        if row is None or (row[1], row[2], row[3]) == (source, told, origin):
            return False
        with self._tables.writing() as db:
            db.execute(
                "UPDATE documents SET source = ?, metadata = ?, origin = ? WHERE number = ?",
                (source, told, origin, row[0]),
            )
            db.execute("DELETE FROM fields WHERE document = ?", (row[0],))
            _write_fields(db, row[0], document_id, source, metadata)
        return True

    def remove(self, document_ids: Iterable[str] = (), *, filters: Filters | None = None) -> int:
        """Documents out, by id or by a filter; one commit. Returns how many there were."""
        with self._tables.writing() as db:
            numbers = set(_numbers(db, list(document_ids)))
            if filters:
                chosen = matching(db, filters)
                numbers |= set() if chosen is None else {int(number) for number in chosen}
            counters = read_counters(db)
            for number in sorted(numbers):
                _remove(db, number, counters.version + 1)
            if numbers:
                write_fact(db, "counters", to_dict(replace(counters, version=counters.version + 1)))
        return len(numbers)

    def compact(self) -> int:
        """Dead rows out of vectors and postings, and their room back to the disk. Returns how many there were."""
        with self._tables.reading() as db:
            counters, dimension = read_counters(db), read_fact(db, "dimension")
            dead = np.fromiter((row[0] for row in db.execute("SELECT row FROM dead")), np.int64)
        live = np.ones(counters.rows, bool)
        live[dead] = False
        rows = np.flatnonzero(live)
        names = np.full(counters.rows, -1, np.int64)
        names[rows] = np.arange(len(rows))
        later = Counters(version=counters.version + 1, generation=counters.generation + 1, rows=len(rows))
        graph_path(self.folder, later).unlink(missing_ok=True)  # what a killed renewal has left: of other vectors
        if dimension:
            self._rewrite_vectors(counters, later, dimension, rows)
        with self._tables.writing() as db:
            moved = [(int(names[row]), int(row)) for row in rows if names[row] != row]
            db.executemany("UPDATE chunks SET row = ? WHERE row = ?", moved)  # ascending: the place is free by then
            rewrite_segments(db, names)
            db.execute("DELETE FROM dead")
            write_fact(db, "counters", to_dict(later))
        for path in generation_files(self.folder, but=later.generation):
            path.unlink(missing_ok=True)
        self._tables.vacuum()
        return len(dead)

    def grow_graph(self, least_rows: int) -> int:
        """The graph of vectors, where there are as many and usearch is installed, brought up to the last commit.
        Returns how many vectors it took in."""
        with self._tables.reading() as db:
            counters, dimension = read_counters(db), read_fact(db, "dimension")
            if not dimension or counters.rows < least_rows or not can_graph():
                return 0
            dead = np.fromiter((row[0] for row in db.execute("SELECT row FROM dead")), np.int64)
        live = np.ones(counters.rows, bool)
        live[dead] = False
        return grow(graph_path(self.folder, counters), self._vectors(counters, dimension).rows(counters.rows), live)

    def _rewrite_vectors(self, counters: Counters, later: Counters, dimension: int, rows: np.ndarray) -> None:
        old, new = self._vectors(counters, dimension), self._vectors(later, dimension)
        new.path.unlink(missing_ok=True)  # what a killed compaction has left
        new.path.touch()
        mapped = old.rows(counters.rows)
        for start in range(0, len(rows), _PAGE):
            new.write(start, mapped[rows[start : start + _PAGE]])

    def _vectors(self, counters: Counters, dimension: int) -> VectorFile:
        return vector_file(self.folder, counters, dimension, self.config)


def busy(folder: Path) -> ArtifactError:
    """Why a folder's lock could not be had."""
    if folder.is_dir():
        return ArtifactError(f"another process is writing to {folder}", hint="wait for it")
    return ArtifactError(f"no index in {folder}", hint="bloomery index PATHS")


def generation_files(folder: Path, *, but: int | None = None) -> list[Path]:
    """The files of vectors and graphs, but those of one generation."""
    kept = "" if but is None else f"-{but:06}."
    found = (path for path in folder.glob("*-*.*") if OF_GENERATION.fullmatch(path.name))
    return sorted(path for path in found if not kept or kept not in path.name)


def vector_file(folder: Path, counters: Counters, dimension: int, config: IndexConfig) -> VectorFile:
    """The file of a generation's vectors."""
    return VectorFile(folder / f"vectors-{counters.generation:06}.raw", dimension, config.precision)


def _numbers(db: sqlite3.Connection, ids: Sequence[str]) -> list[int]:
    found: list[int] = []
    for document_id in ids:
        row = db.execute("SELECT number FROM documents WHERE id = ?", (document_id,)).fetchone()
        found += [row[0]] if row else []
    return found


def _remove(db: sqlite3.Connection, number: int, version: int) -> int:
    db.execute("INSERT INTO dead SELECT row, ? FROM chunks WHERE document = ?", (version, number))
    db.execute("DELETE FROM chunks WHERE document = ?", (number,))
    db.execute("DELETE FROM fields WHERE document = ?", (number,))
    db.execute("DELETE FROM documents WHERE number = ?", (number,))
    return 1


def _insert(db: sqlite3.Connection, document: NewDocument, press: zstandard.ZstdCompressor) -> int:
    text = press.compress(document.text.encode("utf-8", "replace"))
    values = (document.id, document.origin, document.source, document.digest, _json(document.metadata))
    number = db.execute(
        "INSERT INTO documents (id, origin, source, digest, metadata, characters, text) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*values, len(document.text), text),
    ).lastrowid
    assert number is not None
    _write_fields(db, number, document.id, document.source, document.metadata)
    return number


def _write_fields(
    db: sqlite3.Connection, number: int, document_id: str, source: str, metadata: Mapping[str, Any]
) -> None:
    named = {SOURCE: source, DOCUMENT: document_id, **metadata}
    rows = {(name, value) for name, values in named.items() for value in field_values(values)}
    rows = {one for one in rows if len(one[1]) <= _MAX_FIELD_CHARACTERS or one[0] in (SOURCE, DOCUMENT)}
    db.executemany("INSERT INTO fields VALUES (?, ?, ?)", ((name, value, number) for name, value in sorted(rows)))


def _json(metadata: Mapping[str, Any]) -> str:
    return json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)
