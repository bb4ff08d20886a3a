"""QdrantIndex: the same searches over a Qdrant server, for what one machine's index does not hold.

Chunks are points: the vector of their meaning, and the terms of their words as a sparse vector whose products are BM25
(term weights of a chunk are stored, a query's inverse document frequencies are the server's: modifier "idf"). Filters
are the server's. Both rankings are joined here, as `Index` joins them. Chunk lengths are held to a mean that is fixed
when the collection is made, for a server keeps none. This module does not know how documents are cut.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ArtifactError, ConfigError, DataError, MissingExtraError, RequestError
from bloomery.retrieve.chunk import LEXICAL, VECTOR, Chunk, Filters, Hit
from bloomery.retrieve.embedding.embedder import Embedder
from bloomery.retrieve.store.config import IndexConfig, SearchConfig
from bloomery.retrieve.store.filters import DOCUMENT, SOURCE, checked
from bloomery.retrieve.store.fusion import Ranking, fuse
from bloomery.retrieve.store.schema import EMBEDDER, NewDocument, field_values
from bloomery.retrieve.store.terms import Terms

MEAN_TERMS = 150.0
"""Of a chunk, to which BM25 holds lengths: about what 200 words and signs come to."""
_PAGE = 256
_INDEXED = ("document", "origin", "fields")
"""Fields of points that are filtered by."""
_CONFIG_POINT = str(uuid.uuid5(uuid.NAMESPACE_URL, "bloomery:index"))
"""A point without vectors that no search finds: it says how the collection was made."""


class QdrantIndex:
    """See the module. Meets `Retriever`; `put`, `remove` and `document_digests` are a writer's."""

    def __init__(
        self,
        client: Any,
        collection: str,
        *,
        config: IndexConfig | None = None,
        embedder: Embedder | None = None,
        search: SearchConfig | None = None,
        mean_terms: float = MEAN_TERMS,
    ) -> None:
        """`client` is a qdrant_client.QdrantClient (see `connect`). BM25's k1, b and `mean_terms` are stored with each
        chunk's terms, so those of `search` have to be the same whenever chunks go in."""
        self._client, self._collection = client, collection
        self.config, self.embedder = config or IndexConfig(), embedder
        self.made_with: str | None = None
        """The name of what the vectors that go in are made with; kept with the collection."""
        self.settings = search or SearchConfig()
        self._mean = mean_terms
        self._terms = Terms(self.config.words)

    @property
    def name(self) -> str:
        return f"{self._collection}@qdrant ({self.mode()})"

    def mode(self, settings: SearchConfig | None = None) -> str:
        mode = (settings or self.settings).mode
        if mode == "auto":
            return "hybrid" if self.embedder is not None else LEXICAL
        if mode != LEXICAL and self.embedder is None:
            raise ConfigError(f"a {mode} search needs an embedder", hint='mode = "lexical"')
        return mode

    def create(self, dimension: int | None = None) -> None:
        """The collection, if it is not there: `dimension` numbers of a vector, None for words alone."""
        from qdrant_client import models

        if self._client.collection_exists(self._collection):
            return
        dense = {VECTOR: models.VectorParams(size=dimension, distance=models.Distance.COSINE)} if dimension else {}
        sparse = {LEXICAL: models.SparseVectorParams(modifier=models.Modifier.IDF)}
        self._client.create_collection(self._collection, vectors_config=dense, sparse_vectors_config=sparse)
        for name in _INDEXED:
            self._client.create_payload_index(self._collection, name, models.PayloadSchemaType.KEYWORD)
        payload = {"config": json.dumps(to_dict(self.config)), EMBEDDER: self.made_with}
        told = models.PointStruct(id=_CONFIG_POINT, vector={}, payload=payload)
        self._client.upsert(self._collection, [told], wait=True)

    def kept_config(self) -> IndexConfig | None:
        """What the collection was made with; None without one. ArtifactError for a collection of something else."""
        if not self._client.collection_exists(self._collection):
            return None
        found = self._client.retrieve(self._collection, [_CONFIG_POINT])
        if not found or "config" not in (found[0].payload or {}):
            raise ArtifactError(f"{self._collection} holds no index of bloomery", hint="give another collection")
        return from_dict(IndexConfig, json.loads(found[0].payload["config"]), where="index")

    def kept_embedder(self) -> str | None:
        """The name of what the collection's vectors were made with, where it says so."""
        there = self._client.collection_exists(self._collection)
        found = self._client.retrieve(self._collection, [_CONFIG_POINT]) if there else ()
        return (found[0].payload or {}).get(EMBEDDER) if found else None

    def put(self, documents: Sequence[NewDocument], vectors: np.ndarray | None = None) -> None:
        """Documents in, those of the same ids replaced. Points are named by chunk: what is sent twice is there once.
        The new chunks of a document go in before its old ones go out."""
        from qdrant_client import models

        chunks = [(document, chunk) for document in documents for chunk in document.chunks]
        if vectors is not None and len(vectors) != len(chunks):
            raise DataError("there should be one vector for each chunk")
        self.create(None if vectors is None else int(vectors.shape[1]))
        postings, lengths = self._terms.count([f"{chunk.heading}\n{chunk.text}" for _, chunk in chunks])
        k1, b = self.settings.k1, self.settings.b
        weights: list[dict[int, float]] = [{} for _ in chunks]
        for term, (rows, times) in postings.items():
            norm = k1 * (1 - b + b * lengths[rows] / self._mean)
            for row, value in zip(rows.tolist(), (times / (times + norm)).tolist(), strict=True):
                weights[row][term_number(term)] = value
        points = []
        for place, (document, chunk) in enumerate(chunks):
            named: dict[str, Any] = {
                LEXICAL: models.SparseVector(indices=list(weights[place]), values=list(weights[place].values()))
            }
            if vectors is not None:
                named[VECTOR] = vectors[place].tolist()
            payload = {
                "chunk": [chunk.id, chunk.start, chunk.end, chunk.heading, chunk.text],
                "told": json.dumps({**document.metadata, SOURCE: document.source}, ensure_ascii=False),
                "digest": document.digest.hex(),
                "document": document.id,
                "origin": document.origin,
                "source": document.source,
                "num_chunks": len(document.chunks),
                "fields": _fields(document),
            }
            points.append(models.PointStruct(id=point_id(document.id, chunk.id), vector=named, payload=payload))
        for start in range(0, len(points), _PAGE):
            self._client.upsert(self._collection, points[start : start + _PAGE], wait=True)
        for document in documents:
            kept: list[Any] = [point_id(document.id, chunk.id) for chunk in document.chunks]
            again: list[Any] = [models.HasIdCondition(has_id=kept)] if kept else []
            stale = models.Filter(must=[_is("document", document.id)], must_not=again)
            self._client.delete(self._collection, models.FilterSelector(filter=stale), wait=True)

    def remove(self, document_ids: Iterable[str] = (), *, filters: Filters | None = None) -> None:
        """Documents out, by id or by a filter."""
        from qdrant_client import models

        if not self._client.collection_exists(self._collection):
            return
        ids = list(document_ids)
        chosen = [models.Filter(must=[_any("document", ids)])] if ids else []
        chosen += [found] if (found := _filter(filters)) is not None else []
        for one in chosen:
            self._client.delete(self._collection, models.FilterSelector(filter=one), wait=True)

    def count(self) -> int:
        """Chunks."""
        there = self._client.collection_exists(self._collection)
        if not there:
            return 0
        from qdrant_client import models

        told: list[Any] = [_CONFIG_POINT]
        chunks = models.Filter(must_not=[models.HasIdCondition(has_id=told)])
        return int(self._client.count(self._collection, count_filter=chunks, exact=True).count)

    @property
    def collection(self) -> str:
        return self._collection

    def use(self, config: IndexConfig) -> None:
        """The config that the collection was made with."""
        self.config = config
        self._terms.close()
        self._terms = Terms(config.words)

    def payloads(self, key: str, value: str, fields: Sequence[str], page: int) -> Iterator[dict[str, Any]]:
        """Fields of all points with a value, page by page."""
        from qdrant_client import models

        chosen, offset = models.Filter(must=[_is(key, value)]), None
        while self._client.collection_exists(self._collection):
            points, offset = self._client.scroll(
                self._collection, scroll_filter=chosen, limit=page, offset=offset, with_payload=list(fields)
            )
            yield from (point.payload for point in points)
            if offset is None:
                return

    def tell(self, document_id: str, payload: Mapping[str, Any]) -> None:
        """Other fields of all of a document's points."""
        from qdrant_client import models

        chosen = models.Filter(must=[_is("document", document_id)])
        self._client.set_payload(self._collection, dict(payload), points=chosen, wait=True)

    def drop(self) -> None:
        """The collection itself, where there is one. ArtifactError for one of something else."""
        if self.kept_config() is not None:
            self._client.delete_collection(self._collection)

    def search(
        self, query: str, k: int = 10, filters: Filters | None = None, *, settings: SearchConfig | None = None
    ) -> list[Hit]:
        """As `Index.search`."""
        if not 1 <= k <= 10_000:
            raise RequestError(f"k is {k}, but should be from 1 to 10,000", param="k")
        settings = settings or self.settings
        if settings.words_of != "chunk":
            raise ConfigError("a Qdrant server counts the words of chunks", hint='words_of = "chunk"')
        mode = self.mode(settings)
        chosen = _filter(filters)
        if not query.strip() or not self._client.collection_exists(self._collection):
            return []
        depth = max(k, settings.depth) if mode == "hybrid" else k
        found: dict[str, list[Any]] = {}
        if mode != VECTOR and (terms := self._terms.of_query(query)):
            found[LEXICAL] = self._points(_sparse(terms), LEXICAL, depth, chosen)
        if mode != LEXICAL and self.embedder is not None:
            vector = self.embedder.embed([self.config.query_prefix + query])[0]
            found[VECTOR] = self._points(vector.tolist(), VECTOR, depth, chosen)
        return _joined(found, k, settings)

    def _points(self, query: Any, using: str, k: int, chosen: Any) -> list[Any]:
        answer = self._client.query_points(
            self._collection, query=query, using=using, limit=k, query_filter=chosen, with_payload=True
        )
        return [point for point in answer.points if using == VECTOR or point.score > 0]

    def close(self) -> None:
        self._terms.close()
        self._client.close()


class Server:
    """A client whose failures are RequestErrors. Payload indexes are a server's: the client's own store has none."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address

    def __getattr__(self, name: str) -> Any:
        import httpx
        from qdrant_client.http.exceptions import ApiException

        method = getattr(self._client, name)

        def asked(*values: Any, **named: Any) -> Any:
            try:
                return method(*values, **named)
            except (ApiException, httpx.HTTPError) as error:
                said = " ".join(str(error).split())[:300]
                raise RequestError(
                    f"{self._address}: {said}",
                    hint="is it a Qdrant server, and running?",
                    code="unavailable",
                    status=503,
                ) from None

        return asked

    def create_payload_index(self, *values: Any) -> None:
        if "://" in self._address:
            self.__getattr__("create_payload_index")(*values)


def connect(url: str, *, key: str | None = None) -> Server:
    """A client of a server's address, or of ":memory:" or a folder without one (the client's own, for trials).
    MissingExtraError without qdrant-client."""
    try:
        from qdrant_client import QdrantClient
    except ImportError:
        raise MissingExtraError("qdrant-client", "retrieve", "an index on a Qdrant server") from None
    if "://" in url:
        # Asking for the server's version first would print a warning where there is none.
        return Server(QdrantClient(url=url, api_key=key, check_compatibility=False), url)
    return Server(QdrantClient(url) if url == ":memory:" else QdrantClient(path=url), url)


def term_number(term: str) -> int:
    """32 bits of a term: a server's sparse vectors know numbers. Two terms of a collection share one about once in
    four thousand million pairs."""
    return int.from_bytes(hashlib.sha256(term.encode("utf-8", "replace")).digest()[:4], "big")


def point_id(document_id: str, chunk_id: str) -> str:
    """The UUID of a chunk: the same chunk is the same point."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{document_id}\0{chunk_id}"))


def _sparse(terms: dict[str, int]) -> Any:
    from qdrant_client import models

    numbers: dict[int, float] = {}
    for term, times in terms.items():
        numbers[term_number(term)] = numbers.get(term_number(term), 0.0) + times
    return models.SparseVector(indices=list(numbers), values=list(numbers.values()))


def _fields(document: NewDocument) -> list[str]:
    """name=value of every field, the value as filters compare it."""
    named = {**document.metadata, SOURCE: document.source, DOCUMENT: document.id}
    return [f"{name}={value}" for name, values in named.items() for value in field_values(values)]


def _filter(filters: Filters | None) -> Any:
    from qdrant_client import models

    found = checked(filters)
    if not found:
        return None
    return models.Filter(must=[_any("fields", [f"{name}={one}" for one in values]) for name, values in found.items()])


def _any(key: str, values: Sequence[str]) -> Any:
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))


def _is(key: str, value: str) -> Any:
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _joined(found: dict[str, list[Any]], k: int, settings: SearchConfig) -> list[Hit]:
    points = {str(point.id): point for one in found.values() for point in one}
    order = sorted(points)
    number = {name: place for place, name in enumerate(order)}
    rankings: dict[str, Ranking] = {
        name: [(number[str(point.id)], float(point.score)) for point in one] for name, one in found.items()
    }
    if len(rankings) == 1:
        best = list(next(iter(rankings.values())))[:k]
    else:
        weights = {LEXICAL: settings.lexical_weight, VECTOR: settings.vector_weight}
        best = fuse(rankings, weights, settings.fusion)[:k]
    places = {name: {row: place for place, (row, _) in enumerate(one, 1)} for name, one in rankings.items()}
    told = {name: dict(one) for name, one in rankings.items()}
    hits = []
    for row, score in best:
        payload = points[order[row]].payload
        name, start, end, heading, text = payload["chunk"]
        chunk = Chunk(
            id=name,
            document_id=payload["document"],
            text=text,
            start=start,
            end=end,
            heading=heading,
            metadata=json.loads(payload["told"]),
        )
        ranks = {kind: one[row] for kind, one in places.items() if row in one}
        scores = {kind: one[row] for kind, one in told.items() if row in one}
        hits.append(Hit(chunk=chunk, score=score, ranks=ranks, scores=scores))
    return hits
