"""An index on Qdrant made, changed, searched and asked as one of this machine: in the client's own store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bloomery.core.errors import ArtifactError, ConfigError, RequestError
from bloomery.retrieve import CutConfig, IndexConfig, SearchConfig, index, open_index, open_retriever
from bloomery.retrieve.answers import ask
from bloomery.retrieve.opening import server_index
from bloomery.retrieve.places import server_of
from bloomery.retrieve.store.qdrant_writer import QdrantWriter

pytest.importorskip("qdrant_client")
pytestmark = pytest.mark.timeout(120)


def test_documents_come_change_and_go(tmp_path: Path, embedder) -> None:
    docs, home, into = tmp_path / "docs", tmp_path / "home", f"qdrant+file:{tmp_path / 'store'}/docs"
    docs.mkdir()
    (docs / "iron.md").write_text("# Iron\n\nSmelted from ore with charcoal.\n")
    (docs / "rain.md").write_text("# Rain\n\nFalls on the sea.\n")
    config = IndexConfig(embedder="hashed")

    def run(asked: IndexConfig | None = None, fresh: bool = False) -> tuple[int, int, int, int]:
        found = index(docs, into=into, config=asked, embedder=embedder, workspace=home, fresh=fresh)
        return found.added, found.changed, found.deleted, found.unchanged

    assert run(config) == (2, 0, 0, 0)
    assert run() == (0, 0, 0, 2)
    with pytest.raises(ConfigError, match="another cut"):
        run(IndexConfig(embedder="hashed", cut=CutConfig(size_tokens=50)))
    (docs / "iron.md").write_text("# Iron\n\nForged from the bloom.\n")
    (docs / "rain.md").unlink()
    assert run() == (0, 1, 1, 0)
    with closing(open_retriever(into, workspace=home, embedder=embedder)) as found:
        assert found.config == config and found.name == "docs@qdrant (hybrid)"
        (hit,) = found.search("bloom", 3)
        assert hit.chunk.document_id.endswith("iron.md") and set(hit.ranks) == {"lexical", "vector"}
        cosine = embedder.embed(["Iron\nForged from the bloom."])[0] @ embedder.embed(["bloom"])[0]
        assert hit.scores["vector"] == pytest.approx(float(cosine), abs=1e-5) and hit.scores["lexical"] > 0
    other = type(embedder)(dimension=33)
    for opened in (
        lambda: open_retriever(into, workspace=home, embedder=other),
        lambda: index(docs, into=into, embedder=other, workspace=home),
    ):
        with pytest.raises(ConfigError, match="other weights"):
            opened()
    answer = ask(into, "What is forged?", search=SearchConfig(mode="lexical"), workspace=home)
    assert answer.found and "bloom" in answer.text
    assert run(config, fresh=True) == (1, 0, 0, 0)


def test_a_document_that_is_not_whole_is_unknown(tmp_path: Path) -> None:
    into, home = f"qdrant+file:{tmp_path / 'store'}/docs", tmp_path / "home"
    text = " ".join(f"Sentence {n} speaks of iron and of ore." for n in range(40))
    (tmp_path / "a.txt").write_text(text)
    config = IndexConfig(cut=CutConfig(method="sentences", size_tokens=20))
    assert index(tmp_path / "a.txt", into=into, config=config, workspace=home).chunks > 5
    found = server_index(into)
    assert found is not None
    with QdrantWriter(found) as writer:
        (name,) = writer.known(str(tmp_path / "a.txt"))
        assert writer.digest_of(name) is not None
        points, _ = found._client.scroll("docs", limit=3)
        found._client.delete("docs", [point.id for point in points if "document" in point.payload][:1])
        assert writer.digest_of(name) is None
    assert index(tmp_path / "a.txt", into=into, workspace=home).added == 1


def test_addresses_and_mistakes(tmp_path: Path, monkeypatch) -> None:
    assert server_of("qdrant+http://h:6333/docs") == ("http://h:6333", "docs") and server_of("docs") is None
    for wrong in ("qdrant+docs", "qdrant+http://h:6333/", "qdrant+http://u:p@h/docs", "qdrant+ftp://h/docs"):
        with pytest.raises(ConfigError, match="no index on a server"):
            server_of(wrong)
    with pytest.raises(ConfigError, match="no folder"):
        open_index("qdrant+http://127.0.0.1:1/docs", workspace=tmp_path)
    with pytest.raises(RequestError, match=r"127\.0\.0\.1:1"):
        open_retriever("qdrant+http://127.0.0.1:1/docs", workspace=tmp_path)
    with pytest.raises(ArtifactError, match="no index 'docs'"):
        open_retriever(f"qdrant+file:{tmp_path / 'store'}/docs", workspace=tmp_path)
    monkeypatch.setenv("BLOOMERY_QDRANT_KEY", "secret")
    with pytest.raises(ConfigError, match="in the open"):
        open_retriever("qdrant+http://example.org:6333/docs", workspace=tmp_path)
