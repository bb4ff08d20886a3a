"""Filters: which rows have the metadata that is asked for. This module does not know how rows are scored."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np

from bloomery.core.errors import RequestError
from bloomery.retrieve.chunk import Filters
from bloomery.retrieve.store.schema import field_values

SOURCE, DOCUMENT = "source", "document"
"""Fields that every document has: where it came from, and its id."""
_TOLD = 20


def checked(filters: Filters | None) -> dict[str, list[str]]:
    """Each field with the values that will do, as they are kept. RequestError for what is no such thing."""
    found: dict[str, list[str]] = {}
    for name, value in (filters or {}).items():
        if not isinstance(name, str) or not name:
            raise RequestError(f"{name!r} is no name of a field", param="filters")
        values: Sequence[Any] = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
        try:
            found[name] = field_values(values)
        except (TypeError, ValueError) as error:
            raise RequestError(f"the filter {name!r} holds what is no JSON: {error}", param="filters") from error
        if not found[name]:
            raise RequestError(f"the filter {name!r} has no value", param="filters", hint="leave it out")
    return found


def matching(db: sqlite3.Connection, filters: Filters | None) -> np.ndarray | None:
    """The numbers of the documents that have one of the values in every field, ascending; None without a filter.
    RequestError for a field that no document has: nothing that is found would look like nothing that is there."""
    chosen: np.ndarray | None = None
    for name, values in checked(filters).items():
        marks = ",".join("?" * len(values))
        rows = db.execute(f"SELECT document FROM fields WHERE name = ? AND value IN ({marks})", (name, *values))
        numbers = np.unique(np.fromiter((row[0] for row in rows), np.int64))
        if not len(numbers):
            _require(db, name)
        chosen = numbers if chosen is None else np.intersect1d(chosen, numbers, assume_unique=True)
    return chosen


def _require(db: sqlite3.Connection, name: str) -> None:
    if db.execute("SELECT 1 FROM fields WHERE name = ? LIMIT 1", (name,)).fetchone():
        return
    known = [row[0] for row in db.execute("SELECT DISTINCT name FROM fields ORDER BY name LIMIT ?", (_TOLD + 1,))]
    if not known:  # an index without documents
        return
    told = ", ".join(one[:40] for one in known[:_TOLD]) + (", ..." if len(known) > _TOLD else "")
    raise RequestError(
        f"no document has a field {name!r:.60} to filter by",
        param="filters",
        hint=f"kept: {told}; --field NAME when indexing keeps another",
    )


def allowed(documents: np.ndarray, live: np.ndarray, chosen: np.ndarray | None) -> np.ndarray:
    """(rows,) bool: the live rows of the chosen documents."""
    if chosen is None:
        return live
    return live & np.isin(documents, chosen)
