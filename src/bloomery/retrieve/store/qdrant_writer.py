"""QdrantWriter: what changes an index on a Qdrant server, as `Writer` changes one of this machine.

A server has no commits: a document whose chunks did not all arrive, or whose old ones are still there, counts as
unknown, and goes in again with the next run. A document without a chunk leaves nothing, and is taken anew each time.
This module does not know how documents are cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bloomery.retrieve.chunk import Filters
from bloomery.retrieve.store.config import IndexConfig, require_embedder, require_same
from bloomery.retrieve.store.filters import DOCUMENT, SOURCE
from bloomery.retrieve.store.qdrant import QdrantIndex
from bloomery.retrieve.store.schema import NewDocument, field_values

_PAGE = 1000


class QdrantWriter:
    """See the module. One at a time, which nothing enforces."""

    def __init__(self, index: QdrantIndex, config: IndexConfig | None = None) -> None:
        """`config` None takes that of the index; ConfigError where it is another one."""
        self.index = index
        known = index.kept_config()
        self.config = (config or IndexConfig()) if known is None else require_same(config, known, index.collection)
        index.use(self.config)

    def use_embedder(self, name: str) -> None:
        """As `Writer.use_embedder`."""
        require_embedder(name, self.index.kept_embedder(), self.index.collection)
        self.index.made_with = name

    def close(self) -> None:
        self.index.close()

    def __enter__(self) -> QdrantWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def known(self, origin: str) -> dict[str, tuple[bytes, str]]:
        """(digest, metadata as JSON) of each document of an origin, by id."""
        found = self.index.payloads("origin", origin, ["document", "digest", "told"], _PAGE)
        return {one["document"]: (bytes.fromhex(one["digest"]), one["told"]) for one in found}

    def sources(self, origin: str) -> dict[str, str]:
        """The source of each document of an origin, by id."""
        found = self.index.payloads("origin", origin, ["document", "source"], _PAGE)
        return {one["document"]: one["source"] for one in found}

    def digest_of(self, document_id: str) -> tuple[bytes, str] | None:
        """(digest, metadata as JSON) of a document of which all chunks are there and no others."""
        found = list(self._of(document_id))
        if not found or len(found) != found[0]["num_chunks"] or len({one["digest"] for one in found}) > 1:
            return None
        return bytes.fromhex(found[0]["digest"]), found[0]["told"]

    def put(self, documents: Sequence[NewDocument], vectors: np.ndarray | None = None) -> int:
        """As `Writer.put`; 0, for what was replaced is not counted."""
        self.index.put(documents, vectors)
        return 0

    def describe(self, document_id: str, source: str, metadata: Mapping[str, Any], origin: str) -> bool:
        """Other metadata, source and origin of a document whose text stays. Returns whether they are others."""
        first = next(self._of(document_id), None)
        told = json.dumps({**metadata, SOURCE: source}, ensure_ascii=False)
        if first is None or (first["source"], first["told"], first["origin"]) == (source, told, origin):
            return False
        named = {**metadata, SOURCE: source, DOCUMENT: document_id}
        fields = [f"{name}={value}" for name, values in named.items() for value in field_values(values)]
        self.index.tell(document_id, {"source": source, "told": told, "origin": origin, "fields": fields})
        return True

    def remove(self, document_ids: Iterable[str] = (), *, filters: Filters | None = None) -> int:
        """Documents out, by id or by a filter. Returns how many ids there were."""
        ids = list(document_ids)
        self.index.remove(ids, filters=filters)
        return len(ids)

    def grow_graph(self, least_rows: int) -> int:
        """The server's own affair."""
        return 0

    def _of(self, document_id: str) -> Iterator[dict[str, Any]]:
        fields = ["digest", "told", "source", "origin", "num_chunks"]
        return self.index.payloads("document", document_id, fields, _PAGE)
