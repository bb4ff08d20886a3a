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
            self._db.execute("CREATE VIRTUAL TABLE known USING fts5vocab(texts, row)")
            self._db.execute("CREATE VIRTUAL TABLE found USING fts5vocab(texts, instance)")  # in the order of `known`
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
                terms = self._db.execute("SELECT term, cnt FROM known").fetchall()
                found = self._db.execute("SELECT doc FROM found")
                places = np.fromiter((row[0] for row in found), np.int64) - 1
            finally:
                self._db.execute("ROLLBACK")
        return _postings(terms, places, len(texts)), np.bincount(places, minlength=len(texts)).astype(np.int32)

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


def _postings(terms: Sequence[tuple[str, int]], places: np.ndarray, num_texts: int) -> Postings:
    """Of terms and how often each stands anywhere, and of where each of all these stands, in the terms' order. Loops
    over terms, and not over what may be a hundred times as many places."""
    if not terms:
        return {}
    names: list[str] = []
    numbers = np.empty(len(terms), np.int64)
    for place, (term, _) in enumerate(terms):
        name = term[:_MAX_TERM_CHARACTERS]
        if not names or names[-1] != name:  # terms are in their own order: long ones with one beginning are neighbours
            names.append(name)
        numbers[place] = len(names) - 1
    keys = np.repeat(numbers, np.fromiter((n for _, n in terms), np.int64, len(terms))) * num_texts + places
    keys.sort(kind="stable")  # nearly in order already: quick
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    times = np.minimum(np.diff(firsts, append=len(keys)), 65_535).astype(np.uint16)
    owners, rows = np.divmod(keys[firsts], num_texts)
    rows = rows.astype(np.int32)
    ends = np.searchsorted(owners, np.arange(len(names)), side="right").tolist()
    return {
        name: (rows[start:end], times[start:end]) for name, start, end in zip(names, [0, *ends[:-1]], ends, strict=True)
    }


def _sound(text: str) -> str:
    """FTS5 ends a text at a NUL character, and SQLite takes no lone surrogates."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()
