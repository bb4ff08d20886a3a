"""Snapshot: what a reader keeps in memory of an index as one commit left it: a few numbers for every row.

A later commit adds rows and makes others dead; a newer snapshot is made from an older one by reading no more than
that. Snapshots are never changed, so that threads share them. This module does not know texts.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bloomery.retrieve.store.schema import Counters


@dataclass(frozen=True, kw_only=True)
class Owners:
    """The documents of live rows, numbered from 0."""

    of_row: np.ndarray
    """(rows,) int64: the number of the row's document; -1 of a dead row."""
    lengths: np.ndarray
    """(documents,) float64: terms of all live chunks of each."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Arrays over rows, (rows,) each."""

    counters: Counters
    documents: np.ndarray
    """int64: the number of the document that the row's chunk is of."""
    lengths: np.ndarray
    """int32: terms of the chunk."""
    live: np.ndarray
    """bool: not deleted."""

    @cached_property
    def num_live(self) -> int:
        return int(np.count_nonzero(self.live))

    @property
    def all_live(self) -> bool:
        return self.num_live == len(self.live)

    @cached_property
    def mean_terms(self) -> float:
        """Of a live row, more than 0."""
        return max(1e-9, float(self.lengths[self.live].mean())) if self.num_live else 1e-9

    @cached_property
    def owners(self) -> Owners:
        """Made when it is first asked for."""
        names, places = np.unique(self.documents[self.live], return_inverse=True)
        of_row = np.full(len(self.live), -1, np.int64)
        of_row[self.live] = places
        return Owners(of_row=of_row, lengths=np.bincount(places, self.lengths[self.live], len(names)))


def read_snapshot(db: sqlite3.Connection, counters: Counters, older: Snapshot | None = None) -> Snapshot:
    """The snapshot of these counters, which were read in the same transaction."""
    if older is None or older.counters.generation != counters.generation:
        empty = np.zeros(0, np.int64)
        older = Snapshot(counters=Counters(), documents=empty, lengths=empty.astype(np.int32), live=empty.astype(bool))
    known, rows = older.counters.rows, counters.rows
    documents = np.concatenate([older.documents, np.full(rows - known, -1, np.int64)])
    lengths = np.concatenate([older.lengths, np.zeros(rows - known, np.int32)])
    live = np.concatenate([older.live, np.zeros(rows - known, bool)])
    found = db.execute("SELECT row, document, terms FROM chunks WHERE row >= ? AND row < ?", (known, rows)).fetchall()
    if found:
        table = np.array([tuple(one) for one in found], np.int64)
        documents[table[:, 0]], lengths[table[:, 0]], live[table[:, 0]] = table[:, 1], table[:, 2], True
    dead = [row[0] for row in db.execute("SELECT row FROM dead WHERE version > ?", (older.counters.version,))]
    live[dead] = False
    return Snapshot(counters=counters, documents=documents, lengths=lengths, live=live)
