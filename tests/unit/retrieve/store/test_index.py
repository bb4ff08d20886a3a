"""Index: searches by words, by vectors and both; filters, threads, a reader while others write."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from bloomery.core.errors import ConfigError, RequestError
from bloomery.retrieve import CutConfig, Index, IndexConfig, Retriever, SearchConfig, index
from bloomery.retrieve.store.fusion import fuse
from bloomery.retrieve.store.index import best
from bloomery.retrieve.store.writer import Writer

CONFIG = IndexConfig(cut=CutConfig(method="sentences"), embedder="hashed")


@pytest.fixture
def found(tmp_path, documents, embedder):
    index(documents, into=tmp_path / "i", config=CONFIG, embedder=embedder, workspace=tmp_path)
    with Index(tmp_path / "i", embedder=embedder) as opened:
        yield opened


def test_it_is_a_retriever(found):
    retriever: Retriever = found
    assert retriever.name == "i (hybrid)"
    hits = retriever.search("charcoal for iron", 3)
    assert hits[0].chunk.document_id == "a.txt" and set(hits[0].ranks) == {"lexical", "vector"}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_chunks_are_ranges_of_their_documents(found, documents):
    texts = {one.source: one.text for one in documents}
    for chunk in found.chunks():
        assert texts[chunk.document_id][chunk.start : chunk.end] == chunk.text
    assert found.document("b.txt").text == texts["b.txt"] and found.document("absent") is None


@pytest.mark.parametrize("mode", ["lexical", "vector", "hybrid"])
def test_filters(found, mode):
    settings = SearchConfig(mode=mode)
    kinds = {
        hit.chunk.metadata["kind"] for hit in found.search("wood iron rain", 10, {"even": True}, settings=settings)
    }
    assert kinds == {"b", "d"}
    only = found.search("wood iron", 10, {"kind": ["b", "c"], "even": True}, settings=settings)
    assert {hit.chunk.document_id for hit in only} == {"b.txt"}
    assert not found.search("wood", 10, {"kind": "absent"}, settings=settings)
    assert {hit.chunk.document_id for hit in found.search("iron wood", 10, {"document": "c.txt"})} == {"c.txt"}


def test_vector_search_is_exact(found, embedder):
    query = embedder.embed(["wood in the forest"])[0]
    chunks = list(found.chunks())
    scores = embedder.embed([chunk.text for chunk in chunks]) @ query
    hits = found.search_with({}, query, len(chunks))
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1], atol=1e-6)


@pytest.mark.parametrize("filters", [None, {"even": True}, {"kind": ["a", "c"]}])
def test_both_ways_are_the_fusion_of_each(found, embedder, filters):
    """Scores, order and places held to the two rankings by themselves, joined here; cosines to NumPy's."""
    query = "charcoal of the forest"
    parts = {mode: found.search(query, 10, filters, settings=SearchConfig(mode=mode)) for mode in ("lexical", "vector")}
    rows = {chunk.id: row for row, chunk in enumerate(found.chunks())}
    rankings = {name: [(rows[hit.chunk.id], hit.score) for hit in hits] for name, hits in parts.items()}
    names = {row: name for name, row in rows.items()}
    joined = fuse(rankings, {"lexical": 1.0, "vector": 1.0}, "scores")
    hits = found.search(query, 10, filters)
    assert [(hit.chunk.id, hit.score) for hit in hits] == [(names[row], pytest.approx(score)) for row, score in joined]
    asked = embedder.embed([query])[0]
    for hit in hits:
        alone = {name: [one.chunk.id for one in part] for name, part in parts.items()}
        assert hit.ranks == {name: ids.index(hit.chunk.id) + 1 for name, ids in alone.items() if hit.chunk.id in ids}
        assert hit.scores["vector"] == pytest.approx(float(embedder.embed([hit.chunk.text])[0] @ asked), abs=1e-6)
        assert ("lexical" in hit.scores) == ("lexical" in hit.ranks)


def test_shares_of_the_highest_score(found):
    """A query whose every term stands in a chunk has more of it than one of which half is nowhere."""
    words = SearchConfig(mode="lexical")
    (whole, *_), (half, *_) = (
        found.search(query, 3, settings=words) for query in ("wrought iron", "wrought xylophones")
    )
    assert whole.chunk.id == half.chunk.id and 1 > whole.scores["lexical_share"] > half.scores["lexical_share"] > 0
    assert whole.scores["lexical"] == whole.score
    for hit in found.search("xylophones", 3):  # found by meaning alone
        assert hit.scores["lexical_share"] == 0 and set(hit.ranks) == {"vector"}


def test_filtered_vectors_are_exact(found, embedder):
    query = embedder.embed(["wood in the forest"])[0]
    chunks = [chunk for chunk in found.chunks() if chunk.metadata["even"]]
    scores = np.sort(embedder.embed([chunk.text for chunk in chunks]) @ query)[::-1]
    hits = found.search_with({}, query, 10, {"even": True})
    np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-6)


def test_queries_without_a_word_and_wrong_arguments(found):
    assert found.search("  ") == []
    assert found.search("?!", settings=SearchConfig(mode="lexical")) == []
    for bad in ({"k": 0}, {"k": 10**9}, {"filters": {"x": []}}):
        with pytest.raises(RequestError):
            found.search("iron", **bad)
    with pytest.raises(RequestError, match="shape"):
        found.search_with({}, np.ones(3, np.float32))


def test_modes_that_need_vectors(tmp_path, documents):
    index(documents, into=tmp_path / "w", workspace=tmp_path)
    with Index(tmp_path / "w") as words:
        assert words.mode() == "lexical"
        with pytest.raises(ConfigError, match="no vectors"):
            words.search("iron", settings=SearchConfig(mode="vector"))


def test_readers_go_on_while_a_writer_writes(tmp_path, documents, embedder, found):
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                hits = found.search("charcoal", 10)
                assert hits and all(hit.chunk.text for hit in hits)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        index(documents[:2], into=tmp_path / "i", embedder=embedder, workspace=tmp_path)
        with Writer(tmp_path / "i") as writer:
            writer.remove(["d.txt"])
            writer.compact()
        index(documents, into=tmp_path / "i", embedder=embedder, workspace=tmp_path)
        index(documents, into=tmp_path / "i", config=CONFIG, embedder=embedder, workspace=tmp_path, fresh=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_best():
    scores = np.array([0.0, 2.0, 1.0, 2.0, 3.0], np.float32)
    assert best(scores, 2, above=0.0) == [(4, 3.0), (1, 2.0)]
    assert best(scores, 10, above=0.0) == [(4, 3.0), (1, 2.0), (3, 2.0), (2, 1.0)]


def test_a_graph_finds_what_a_full_search_finds(tmp_path, embedder):
    pytest.importorskip("usearch")
    from bloomery.corpus.document import Document

    texts = [Document.of(f"word{n} and word{n * 7 % 90} of word{n * 13 % 40}", f"{n}.txt") for n in range(300)]
    index(texts, into=tmp_path / "g", config=CONFIG, embedder=embedder, workspace=tmp_path)
    few, all_ = SearchConfig(mode="vector", exact_rows=10), SearchConfig(mode="vector")
    with Writer(tmp_path / "g") as writer, Index(tmp_path / "g", embedder=embedder) as opened:
        assert writer.grow_graph(10) == 300
        writer.remove(["3.txt"])
        index_of = [[hit.score for hit in opened.search("word3 word21", 10, settings=one)] for one in (few, all_)]
        np.testing.assert_allclose(*index_of, atol=1e-6)
        assert (tmp_path / "g" / "graph-000000.usearch").is_file()
