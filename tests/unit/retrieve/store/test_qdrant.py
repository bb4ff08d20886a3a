"""Qdrant held to our own index: in the client's local mode, and on a server where BLOOMERY_QDRANT_URL names one."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace

import pytest

from bloomery.retrieve import Index, IndexConfig, Retriever, SearchConfig
from bloomery.retrieve.store.qdrant import QdrantIndex, connect, point_id
from bloomery.retrieve.store.schema import NewChunk, NewDocument
from bloomery.retrieve.store.writer import Writer

pytest.importorskip("qdrant_client")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(120)]
TEXTS = [
    "iron ore and charcoal in the furnace",
    "charcoal of the forest burns slowly",
    "bars of wrought iron, iron, iron",
    "rain falls on the sea and the forest",
]


def new(name: str, text: str, **metadata: object) -> NewDocument:
    chunk = NewChunk(id=f"{name}-0", start=0, end=len(text), heading="", text=text)
    told = {"id": name, "origin": "o", "source": f"{name}.txt", "digest": text.encode(), "text": text}
    return NewDocument(**told, metadata=metadata, chunks=[chunk])


@pytest.fixture(params=[":memory:", os.environ.get("BLOOMERY_QDRANT_URL", "")])
def qdrant(request, embedder):
    if not request.param:
        pytest.skip("BLOOMERY_QDRANT_URL names no server")
    index = QdrantIndex(connect(request.param), f"test-{uuid.uuid4().hex}", embedder=embedder, mean_terms=6.0)
    yield index
    index._client.delete_collection(index._collection)
    index.close()


@pytest.mark.parametrize("mode", ["lexical", "vector", "hybrid"])
def test_the_same_is_found_as_in_our_own_index(tmp_path, qdrant, embedder, mode):
    documents = [new(f"d{n}", text, number=n, tags=["t", str(n % 2)]) for n, text in enumerate(TEXTS)]
    vectors = embedder.embed(TEXTS)
    qdrant.put(documents, vectors)
    settings = SearchConfig(mode=mode, fusion="ranks")  # scores differ by what lengths are held to
    with Writer(tmp_path, IndexConfig(embedder="hashed")) as writer:
        writer.put(documents, vectors)
    with Index(tmp_path, embedder=embedder) as ours:
        for query in ("iron", "charcoal of the forest", "sea"):
            for filters in (None, {"tags": "1"}, {"number": [0, 1, 2]}):
                first = qdrant.search(query, 3, filters, settings=settings)
                second = ours.search(query, 3, filters, settings=settings)
                if mode != "lexical":  # of equal ranks or products any order will do
                    assert [hit.score for hit in first] == pytest.approx([hit.score for hit in second], abs=1e-5)
                else:
                    assert [hit.chunk.id for hit in first][:1] == [hit.chunk.id for hit in second][:1]
                assert first[0].chunk.metadata["source"] == f"{first[0].chunk.document_id}.txt" if first else not second


def test_replaced_and_removed(qdrant, embedder):
    retriever: Retriever = qdrant
    words = SearchConfig(mode="lexical")
    assert retriever.search("iron") == []
    qdrant.put([new("a", TEXTS[0]), new("b", TEXTS[1], kind="x")], embedder.embed(TEXTS[:2]))
    assert qdrant.count() == 2
    changed = new("a", "copper")
    qdrant.put([replace(changed, chunks=[replace(changed.chunks[0], id="a-1")])], embedder.embed(["copper"]))
    assert qdrant.count() == 2 and qdrant.search("iron", settings=words) == []
    assert [hit.chunk.text for hit in qdrant.search("copper", settings=words)] == ["copper"]
    qdrant.remove(filters={"kind": "x"})
    qdrant.remove(["a"])
    assert qdrant.count() == 0


def test_points_are_named_by_chunk():
    assert point_id("a", "b") == point_id("a", "b") != point_id("b", "a")
