"""Index: searches an index folder by words, by meaning, or both. A `Retriever`.

A search is one read transaction: what it finds is of one commit, whatever a writer does meanwhile. Several threads
search at the same time, each through a connection of its own. This module does not know how an index is written.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from bloomery.core.config import from_dict
from bloomery.core.errors import ArtifactError, ConfigError, RequestError
from bloomery.corpus.document import Document
from bloomery.retrieve.chunk import LEXICAL, LEXICAL_SHARE, VECTOR, Chunk, Filters, Hit
from bloomery.retrieve.embedding.embedder import Embedder
from bloomery.retrieve.store.config import IndexConfig, SearchConfig, require_embedder
from bloomery.retrieve.store.filters import allowed, matching
from bloomery.retrieve.store.fusion import Ranking, fuse
from bloomery.retrieve.store.graph import Graph, can_graph, graph_path
from bloomery.retrieve.store.lexical import bm25, highest
from bloomery.retrieve.store.schema import EMBEDDER, Tables, read_counters, read_fact
from bloomery.retrieve.store.snapshot import Snapshot, read_snapshot
from bloomery.retrieve.store.terms import Terms
from bloomery.retrieve.store.vector_file import products
from bloomery.retrieve.store.writer import vector_file

LEAST_CHUNKS = 200
"""From which on the rarity of words says something."""
_MAX_K = 10_000
_ATTEMPTS = 5


class Index:
    """See the module. ArtifactError where there is none. `embedder` is what the index's vectors were made with: None
    searches by words alone, unless a search brings its own vector. ConfigError for another one's."""

    def __init__(self, folder: str | Path, *, embedder: Embedder | None = None, search: SearchConfig | None = None):
        self.folder = Path(folder)
        self.embedder: Embedder | None = None
        self.settings = search or SearchConfig()
        self._own = threading.local()
        self._opened: list[Tables] = []
        self._lock = threading.Lock()
        self._snapshot: Snapshot | None = None
        self._opened_graph: tuple[tuple[str, int], Graph] | None = None
        self._mapped: tuple[int, np.ndarray] | None = None
        with self._reading() as (db, _):
            told, self._made_with = read_fact(db, "config"), read_fact(db, EMBEDDER)
        if told is None:
            raise ArtifactError(f"the index in {self.folder} was never begun", hint="bloomery index PATHS --into it")
        self._told = told
        self.config = from_dict(IndexConfig, told, where="index")
        self._terms = Terms(self.config.words)
        if embedder is not None:
            try:
                self.use(embedder)
            except BaseException:
                self.close()
                raise

    def use(self, embedder: Embedder) -> None:
        """What queries are embedded with. ConfigError where the index's vectors are another one's."""
        require_embedder(embedder.name, self._made_with, str(self.folder))
        self.embedder = embedder

    @property
    def name(self) -> str:
        return f"{self.folder.name} ({self.mode()})"

    def mode(self, settings: SearchConfig | None = None) -> str:
        """How a search goes: lexical, vector or hybrid. ConfigError where it needs vectors that are not there."""
        mode = (settings or self.settings).mode
        can = bool(self.config.embedder) and self.embedder is not None
        if mode == "auto":
            return "hybrid" if can else LEXICAL
        if mode != LEXICAL and not self.config.embedder:
            raise ConfigError(f"the index {self.folder.name} has no vectors", hint="make one with --embedder minilm")
        if mode != LEXICAL and not can:
            raise ConfigError(f"a {mode} search needs the embedder {self.config.embedder}", hint="open_index has it")
        return mode

    @property
    def tells_words(self) -> bool:
        """Whether "lexical_share" of its hits says how far a question's words stand in it: of few chunks nobody knows
        which words are rare, and "how" and "did" weigh as much as names."""
        with self._reading() as (_, snapshot):
            return snapshot.num_live >= LEAST_CHUNKS

    def close(self) -> None:
        with self._lock:
            for tables in self._opened:
                tables.close()
            self._opened.clear()
        self._terms.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def search(
        self, query: str, k: int = 10, filters: Filters | None = None, *, settings: SearchConfig | None = None
    ) -> list[Hit]:
        """The best chunks, best first, at most k; a query without a word finds nothing. RequestError for a k or a
        filter that makes no sense."""
        if not isinstance(query, str):
            raise RequestError("a query is text", param="query")
        if not 1 <= k <= _MAX_K:
            raise RequestError(f"k is {k}, but should be from 1 to {_MAX_K:,}", param="k")
        settings = settings or self.settings
        mode = self.mode(settings)
        if not query.strip():
            return []
        terms = self._terms.of_query(query) if mode != VECTOR else {}
        vector = None
        if mode != LEXICAL and self.embedder is not None:
            vector = self.embedder.embed([self.config.query_prefix + query])[0]
        return self.search_with(terms, vector, k, filters, settings=settings)

    def search_with(
        self,
        terms: Mapping[str, int],
        vector: np.ndarray | None,
        k: int = 10,
        filters: Filters | None = None,
        *,
        settings: SearchConfig | None = None,
    ) -> list[Hit]:
        """As `search`, by terms (and how often each is asked for), by a vector (E,) of length one, or by both."""
        settings = settings or self.settings
        depth = max(k, settings.depth) if terms and vector is not None else k
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._reading() as (db, snapshot):
                    rows = allowed(snapshot.documents, snapshot.live, matching(db, filters))
                    rankings: dict[str, Ranking] = {}
                    if terms:
                        rankings[LEXICAL] = self._by_words(db, snapshot, rows, terms, depth, settings)
                    if vector is not None:
                        rankings[VECTOR] = self._by_meaning(db, snapshot, rows, vector, depth, settings)
                    most = highest(db, terms, snapshot) if terms else 0.0
                    return _hits(db, rankings, k, settings, most)
            except FileNotFoundError:  # compacted between the commit that we read and our opening of its vectors
                if attempt == _ATTEMPTS:
                    raise ArtifactError(f"the vectors of {self.folder} are gone", hint="--fresh") from None
        raise AssertionError("the last attempt raises")

    def _by_words(
        self,
        db: sqlite3.Connection,
        snapshot: Snapshot,
        rows: np.ndarray,
        terms: Mapping[str, int],
        depth: int,
        settings: SearchConfig,
    ) -> Ranking:
        scores = bm25(db, terms, snapshot, k1=settings.k1, b=settings.b, of=settings.words_of)
        if rows is not snapshot.live:
            scores *= rows
        return best(scores, depth, above=0.0)

    def _by_meaning(
        self,
        db: sqlite3.Connection,
        snapshot: Snapshot,
        rows: np.ndarray,
        vector: np.ndarray,
        depth: int,
        settings: SearchConfig,
    ) -> Ranking:
        dimension = read_fact(db, "dimension")
        if not dimension or not snapshot.counters.rows:
            return ()
        if vector.shape != (dimension,):
            raise RequestError(f"a vector of shape {vector.shape} for an index of {dimension} numbers", param="vector")
        mapped = self._vectors(snapshot, dimension)
        query = np.ascontiguousarray(vector, np.float32)
        count = snapshot.num_live if rows is snapshot.live else int(np.count_nonzero(rows))
        # A filter leaves holes that a graph cannot jump over: then what it leaves is searched in full.
        graph = self._graph(snapshot, dimension) if count > settings.exact_rows else None
        chosen = None
        if graph is not None and count == snapshot.num_live:
            near = graph.nearest(query, depth + snapshot.counters.rows - count)
            chosen = np.concatenate([np.sort(near[rows[near]]), graph.rows + np.flatnonzero(rows[graph.rows :])])
        elif count * 4 < len(rows):  # few: only they are read
            chosen = np.flatnonzero(rows)
        if chosen is not None:
            scores = np.full(len(rows), -np.inf, np.float32)
            scores[chosen] = products(mapped[chosen], query)
        else:
            scores = products(mapped, query)
            if count < len(rows):
                scores[~rows] = -np.inf
        return best(scores, depth, above=-np.inf)

    def _vectors(self, snapshot: Snapshot, dimension: int) -> np.ndarray:
        """The snapshot's rows of the vector file (rows, E), mapped once for as long as no rows are added: a mapping
        made anew is read page by page. A snapshot that is older than what is mapped takes its beginning."""
        counters = snapshot.counters
        with self._lock:
            known = self._mapped
        if known is None or known[0] != counters.generation or len(known[1]) < counters.rows:
            file = vector_file(self.folder, counters, dimension, self.config)
            known = (counters.generation, file.rows(counters.rows))
            with self._lock:
                self._mapped = known
        return known[1][: counters.rows]

    def _graph(self, snapshot: Snapshot, dimension: int) -> Graph | None:
        """The graph of the snapshot's generation, opened once for as long as its file stays; None without one."""
        path = graph_path(self.folder, snapshot.counters)
        try:
            stamp = (path.name, path.stat().st_mtime_ns)
        except FileNotFoundError:
            return None
        with self._lock:
            if can_graph() and (self._opened_graph is None or self._opened_graph[0] != stamp):
                self._opened_graph = (stamp, Graph(path, dimension))
            return self._opened_graph[1] if self._opened_graph else None

    def document(self, document_id: str) -> Document | None:
        """A document as it was indexed, its metadata with it; None for one that is not there."""
        with self._reading() as (db, _):
            row = db.execute(
                "SELECT text, source, metadata, characters FROM documents WHERE id = ?", (document_id,)
            ).fetchone()
        if row is None:
            return None
        return Document(document_id, _decompressed(row[0]), row[1], json.loads(row[2]))

    def documents(self, filters: Filters | None = None) -> list[dict[str, Any]]:
        """id, source, characters, chunks and metadata of every document, by id."""
        with self._reading() as (db, _):
            chosen = matching(db, filters)
            found = db.execute(
                "SELECT number, id, source, characters, metadata, (SELECT count(*) FROM chunks WHERE document = number)"
                " FROM documents ORDER BY id"
            ).fetchall()
        wanted = None if chosen is None else set(chosen.tolist())
        names = ("id", "source", "characters", "metadata", "chunks")
        rows = [
            (row[1], row[2], row[3], json.loads(row[4]), row[5]) for row in found if wanted is None or row[0] in wanted
        ]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def chunks(self, document_id: str | None = None) -> Iterator[Chunk]:
        """The chunks of a document, or of all, in the order in which they went in; read in one go."""
        where = "" if document_id is None else " WHERE documents.id = ?"
        with self._reading() as (db, _):
            found = db.execute(
                f"{_CHUNKS}{where} ORDER BY row", () if document_id is None else (document_id,)
            ).fetchall()
        return (_chunk(row) for row in found)

    def counts(self) -> dict[str, int]:
        """documents, chunks, dead rows, characters, and numbers of a vector (0 without)."""
        with self._reading() as (db, snapshot):
            documents, characters = db.execute(
                "SELECT count(*), coalesce(sum(characters), 0) FROM documents"
            ).fetchone()
            dimension = read_fact(db, "dimension") or 0
        live = snapshot.num_live
        return {
            "documents": documents,
            "chunks": live,
            "dead": snapshot.counters.rows - live,
            "characters": characters,
            "dimension": dimension,
        }

    def _require_same(self, db: sqlite3.Connection) -> None:
        """ArtifactError where the index was made anew otherwise since it was opened."""
        if read_fact(db, "config") != self._told or read_fact(db, EMBEDDER) != self._made_with:
            raise ArtifactError(f"the index in {self.folder} was made anew in another way", hint="open it again")

    @contextmanager
    def _reading(self) -> Iterator[tuple[sqlite3.Connection, Snapshot]]:
        with self._tables().reading() as db:
            yield db, self._newest(db)

    def _tables(self) -> Tables:
        tables = getattr(self._own, "tables", None)
        if tables is None:
            tables = self._own.tables = Tables(self.folder, create=False)
            with self._lock:
                self._opened.append(tables)
        return tables

    def _newest(self, db: sqlite3.Connection) -> Snapshot:
        counters = read_counters(db)
        with self._lock:
            known = self._snapshot
        if known is not None and known.counters == counters:
            return known
        if known is not None and known.counters.generation != counters.generation:
            self._require_same(db)
        if known is not None and known.counters.version > counters.version:
            known = None  # another thread has seen a later commit than this transaction
        found = read_snapshot(db, counters, known)
        with self._lock:
            if self._snapshot is None or self._snapshot.counters.version < counters.version:
                self._snapshot = found
        return found


def best(scores: np.ndarray, k: int, *, above: float) -> list[tuple[int, float]]:
    """(row, score) of the k highest scores that are more than `above`, highest first; of equal ones the lower row."""
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = np.flatnonzero(scores >= least if least > above else scores > above)
    else:
        chosen = np.flatnonzero(scores > above)
    order = np.lexsort((chosen, -scores[chosen]))[:k]
    return list(zip(chosen[order].tolist(), scores[chosen[order]].tolist(), strict=True))


_CHUNKS = (
    "SELECT row, chunks.id, documents.id, chunks.text, first, past, heading, metadata, source"
    " FROM chunks JOIN documents ON documents.number = chunks.document"
)


def _hits(
    db: sqlite3.Connection, rankings: Mapping[str, Ranking], k: int, settings: SearchConfig, most: float
) -> list[Hit]:
    if len(rankings) == 1:
        found: Sequence[tuple[int, float]] = next(iter(rankings.values()))[:k]
    else:
        weights = {LEXICAL: settings.lexical_weight, VECTOR: settings.vector_weight}
        found = fuse(rankings, weights, settings.fusion)[:k]
    places = {name: {row: place for place, (row, _) in enumerate(one, 1)} for name, one in rankings.items()}
    told = {name: dict(one) for name, one in rankings.items()}
    hits = []
    for row, score in found:
        read = db.execute(f"{_CHUNKS} WHERE row = ?", (row,)).fetchone()
        ranks = {name: one[row] for name, one in places.items() if row in one}
        scores = {name: one[row] for name, one in told.items() if row in one}
        if most > 0 and LEXICAL in told:
            scores[LEXICAL_SHARE] = min(1.0, scores.get(LEXICAL, 0.0) / most)
        hits.append(Hit(chunk=_chunk(read), score=score, ranks=ranks, scores=scores))
    return hits


def _chunk(row: Sequence[Any]) -> Chunk:
    _, chunk_id, document_id, text, first, past, heading, metadata, source = row
    known = {**json.loads(metadata), "source": source}
    return Chunk(
        id=chunk_id, document_id=document_id, text=text, start=first, end=past, heading=heading, metadata=known
    )


def _decompressed(data: bytes) -> str:
    return zstandard.ZstdDecompressor().decompress(data).decode()
