"""EmbeddingCache: vectors by embedder and text, in one SQLite file: what was embedded once is not embedded again.

This module does not know what texts are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bloomery.core.database import Database
from bloomery.retrieve.embedding.embedder import Embedder

CACHE_FILE = "embeddings.sqlite"
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE embedders (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE vectors (embedder INTEGER NOT NULL REFERENCES embedders(number), digest BLOB NOT NULL,"
        " vector BLOB NOT NULL, PRIMARY KEY (embedder, digest))",
    ),
)
_AT_ONCE = 500
"""Of what SQLite takes in one question."""
_EMBEDDED = 256
"""Texts that are embedded before their vectors are kept."""


class EmbeddingCache(Database):
    """See the module. Thread-safe; several processes may share the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MIGRATIONS, name="cache of embeddings")

    def get(self, embedder: str, digests: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Vectors float32 (E,) of those that are known."""
        found: dict[bytes, np.ndarray] = {}
        for start in range(0, len(digests), _AT_ONCE):
            asked = digests[start : start + _AT_ONCE]
            marks = ",".join("?" * len(asked))
            rows = self._rows(
                "SELECT digest, vector FROM vectors WHERE embedder = (SELECT number FROM embedders WHERE name = ?)"
                f" AND digest IN ({marks})",
                (embedder, *asked),
            )
            found |= {row["digest"]: np.frombuffer(row["vector"], "<f4") for row in rows}
        return found

    def put(self, embedder: str, vectors: dict[bytes, np.ndarray]) -> None:
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO embedders (name) VALUES (?)", (embedder,))
            number = db.execute("SELECT number FROM embedders WHERE name = ?", (embedder,)).fetchone()[0]
            rows = ((number, digest, np.asarray(vector, "<f4").tobytes()) for digest, vector in vectors.items())
            db.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)", rows)


class CachedEmbedder:
    """An embedder that asks its cache first; a text that comes twice in one call is embedded once."""

    def __init__(self, embedder: Embedder, cache: EmbeddingCache) -> None:
        self._embedder, self._cache = embedder, cache

    @property
    def name(self) -> str:
        return self._embedder.name

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        digests = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in texts]
        known = self._cache.get(self.name, list(dict.fromkeys(digests)))
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
        order = sorted(missing, key=lambda digest: len(missing[digest]))  # texts of like length together
        for start in range(0, len(order), _EMBEDDED):
            chosen = order[start : start + _EMBEDDED]
            made = dict(zip(chosen, self._embedder.embed([missing[one] for one in chosen]), strict=True))
            self._cache.put(self.name, made)
            known |= made
        if not texts:
            return self._embedder.embed([])
        return np.stack([known[digest] for digest in digests])

    def close(self) -> None:
        self._embedder.close()
        self._cache.close()
