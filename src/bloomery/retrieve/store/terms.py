"""Terms: the words of texts as a lexical index has them, cut and stemmed by SQLite's own FTS5.

Texts go into a table in memory with FTS5's tokenizer, and its vocabulary is read back: terms with how often they stand
in which text. "porter" is Porter's stemmer (1980) over Unicode words, "unicode61" the words alone, "trigram" runs of
three characters, for scripts without spaces. This module does not know what is counted or searched.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from bloomery.core.errors import DeviceError

Words = Literal["porter", "unicode61", "trigram"]
_LISTED = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this"
    " to was will with"
)
_STOP_WORDS = frozenset(_LISTED.split())
"""Lucene's list for English: function words that say nothing of what is asked."""
_MAX_TERM_CHARACTERS = 64
"""A longer run without a space is no word that anyone types; it is known by its beginning."""

Postings = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""A term to the texts that hold it (ascending, int32) and how often each does (uint16)."""


class Terms:
    """See the module. Safe to use from several threads."""

    def __init__(self, words: Words = "porter") -> None:
        self.words = words
        self._lock = threading.Lock()
        tokenize = {"porter": "porter unicode61", "unicode61": "unicode61", "trigram": "trigram"}[words]
        try:
            self._db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            self._db.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='{tokenize}')")
            self._db.execute("CREATE VIRTUAL TABLE found USING fts5vocab(texts, instance)")
        except sqlite3.OperationalError as error:
            raise DeviceError(
                f"this Python's SQLite has no FTS5: {error}", hint="SQLite 3.34 or later has it"
            ) from None

    def count(self, texts: Sequence[str]) -> tuple[Postings, np.ndarray]:
        """The postings of texts by their place in the list, and (N,) int32 terms of each text, repeated ones too."""
        with self._lock:
            self._db.execute("BEGIN")
            try:
                rows = ((place + 1, _sound(text)) for place, text in enumerate(texts))
                self._db.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", rows)
                found = self._db.execute("SELECT term, doc, count(*) FROM found GROUP BY term, doc").fetchall()
            finally:
                self._db.execute("ROLLBACK")
        lengths = np.zeros(len(texts), np.int32)
        gathered: dict[str, dict[int, int]] = {}
        for term, text, times in found:
            lengths[text - 1] += times
            places = gathered.setdefault(term[:_MAX_TERM_CHARACTERS], {})
            places[text - 1] = places.get(text - 1, 0) + times
        return {term: _arrays(places) for term, places in gathered.items()}, lengths

    def of_query(self, query: str) -> dict[str, int]:
        """The terms of a query and how often each stands in it; words that say nothing are left out where there are
        others."""
        words = query.split() if self.words == "porter" else []
        telling = " ".join(word for word in words if word.strip(".,;:!?()[]\"'").lower() not in _STOP_WORDS)
        found, _ = self.count([telling or query])
        if not found and telling:
            found, _ = self.count([query])
        return {term: int(times[0]) for term, (_, times) in found.items()}

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _arrays(places: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rows = np.fromiter(places, np.int32, len(places))
    counts = np.fromiter((min(n, 65_535) for n in places.values()), np.uint16, len(places))
    order = np.argsort(rows, kind="stable")
    return rows[order], counts[order]


def _sound(text: str) -> str:
    """FTS5 ends a text at a NUL character, and SQLite takes no lone surrogates."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
