"""Lexical: BM25 over postings that lie in the index's SQLite file, in segments, one a commit, merged as they grow.

Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), with Lucene's inverse document
frequency, ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative; dead chunks count nowhere. This module does not
know texts, nor what a row is.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

import numpy as np

from bloomery.retrieve.store.schema import as_counts, as_rows
from bloomery.retrieve.store.snapshot import Snapshot
from bloomery.retrieve.store.terms import Postings

_MERGED = 8
"""Segments of a level that become one of the next: a term then lies in few places (O'Neil et al., 1996)."""


def write_segment(db: sqlite3.Connection, postings: Postings, first_row: int) -> None:
    """The postings of new chunks, whose rows begin at `first_row`; part of the caller's commit."""
    number = _next_segment(db)
    db.execute("INSERT INTO segments VALUES (?, 0)", (number,))
    db.executemany(
        "INSERT INTO postings VALUES (?, ?, ?, ?)",
        (
            (term, number, (rows + first_row).astype("<i4").tobytes(), times.astype("<u2").tobytes())
            for term, (rows, times) in sorted(postings.items())
        ),
    )
    _merge(db)


def rewrite_segments(db: sqlite3.Connection, new_rows: np.ndarray) -> None:
    """All segments as one, rows renamed: `new_rows[row]`, -1 for a dead one, which is left out."""
    numbers = [row[0] for row in db.execute("SELECT number FROM segments ORDER BY number")]
    if numbers:
        level = db.execute("SELECT max(level) FROM segments").fetchone()[0]
        _join(db, numbers, level, new_rows)


def _next_segment(db: sqlite3.Connection) -> int:
    return (db.execute("SELECT max(number) FROM segments").fetchone()[0] or 0) + 1


def _merge(db: sqlite3.Connection) -> None:
    level = 0
    while True:
        query = "SELECT number FROM segments WHERE level = ? ORDER BY number"
        numbers = [row[0] for row in db.execute(query, (level,))]
        if len(numbers) < _MERGED:
            return
        level += 1
        _join(db, numbers, level)


def _join(db: sqlite3.Connection, numbers: list[int], level: int, new_rows: np.ndarray | None = None) -> None:
    """Segments hold ascending rows, a later one higher ones: joined in order, they stay ascending."""
    marks = ",".join("?" * len(numbers))
    chunks: dict[str, list[bytes]] = defaultdict(list)
    times: dict[str, list[bytes]] = defaultdict(list)
    query = f"SELECT term, chunks, times FROM postings WHERE segment IN ({marks}) ORDER BY term, segment"
    for term, rows, counts in db.execute(query, numbers):
        chunks[term].append(rows)
        times[term].append(counts)
    db.execute(f"DELETE FROM postings WHERE segment IN ({marks})", numbers)
    db.execute(f"DELETE FROM segments WHERE number IN ({marks})", numbers)
    number = _next_segment(db)
    db.execute("INSERT INTO segments VALUES (?, ?)", (number, level))
    for term in chunks:
        rows, counts = b"".join(chunks[term]), b"".join(times[term])
        if new_rows is not None:
            renamed = new_rows[as_rows(rows)]
            rows = renamed[renamed >= 0].astype("<i4").tobytes()
            counts = as_counts(counts)[renamed >= 0].tobytes()
        if rows:
            db.execute("INSERT INTO postings VALUES (?, ?, ?, ?)", (term, number, rows, counts))


def bm25(
    db: sqlite3.Connection,
    query: Mapping[str, int],
    snapshot: Snapshot,
    *,
    k1: float,
    b: float,
    of: Literal["chunk", "document"] = "chunk",
) -> np.ndarray:
    """(rows,) float32: the score of every row; 0 where no term of the query stands, and for dead rows. `of` "document"
    gives each row its document's: the words of all its chunks, with the headings of each, are one text."""
    scores = np.zeros(len(snapshot.lengths), np.float32)
    if not snapshot.num_live or not query:
        return scores
    gathered: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    marks = ",".join("?" * len(query))
    found = db.execute(f"SELECT term, chunks, times FROM postings WHERE term IN ({marks})", list(query))
    for term, rows, counts in found:
        gathered[term].append((as_rows(rows), as_counts(counts)))
    owners = snapshot.owners if of == "document" else None
    lengths = snapshot.lengths if owners is None else owners.lengths
    known = snapshot.num_live if owners is None else len(lengths)
    mean = snapshot.mean_terms if owners is None else max(1e-9, float(lengths.mean()))
    norms = (k1 * (1 - b + b / mean * lengths)).astype(np.float32)
    totals = scores if owners is None else np.zeros(known, np.float32)
    for term in sorted(gathered):  # always in one order: sums of floats depend on it
        rows = np.concatenate([rows for rows, _ in gathered[term]])
        times = np.concatenate([counts for _, counts in gathered[term]]).astype(np.float32)
        if owners is None:
            holding = len(rows) if snapshot.all_live else int(np.count_nonzero(snapshot.live[rows]))
        else:
            rows, times = _by_owner(rows, times, owners.of_row)
            holding = len(rows)
        weight = np.float32(query[term] * np.log1p((known - holding + 0.5) / (holding + 0.5)))
        totals[rows] += weight * (times / (times + norms[rows]))
    if owners is not None:
        scores = totals[owners.of_row]  # of a dead row, -1: any
    if not snapshot.all_live:
        scores *= snapshot.live
    return scores


def highest(db: sqlite3.Connection, query: Mapping[str, int], snapshot: Snapshot) -> float:
    """What BM25 could give at most: every term of the query, more often than counts any more; also those that stand
    nowhere. Dead chunks count among those that hold a term, which is a little too many of them."""
    marks = ",".join("?" * len(query))
    asked = f"SELECT term, sum(length(chunks)) / 4 FROM postings WHERE term IN ({marks}) GROUP BY term"
    holding, known = {row[0]: row[1] for row in db.execute(asked, list(query))}, snapshot.num_live
    counts = ((times, min(known, holding.get(term, 0))) for term, times in query.items())
    return float(sum(times * np.log1p((known - held + 0.5) / (held + 0.5)) for times, held in counts))


def _by_owner(rows: np.ndarray, times: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Documents that hold a term, and how often. A document's rows are neighbours: it went in at once."""
    owned = owner[rows]
    owned, times = owned[owned >= 0], times[owned >= 0]
    firsts = np.flatnonzero(np.diff(owned, prepend=-1))
    return (owned[firsts], np.add.reduceat(times, firsts)) if len(firsts) else (owned, times)
