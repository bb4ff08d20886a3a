"""Writer: commits, replacement, deletion, compaction, one writer at a time; and a kill at any instant."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.retrieve import Index, IndexConfig, SearchConfig
from bloomery.retrieve.store.schema import NewChunk, NewDocument
from bloomery.retrieve.store.writer import Writer

WORDS = SearchConfig(mode="lexical")


def new(name: str, *texts: str, **metadata: object) -> NewDocument:
    chunks = [NewChunk(id=f"{name}-{n}", start=n, end=n + 1, heading="", text=text) for n, text in enumerate(texts)]
    text = " ".join(texts)
    return NewDocument(
        id=name, origin="o", source=name, digest=text.encode(), metadata=metadata, text=text, chunks=chunks
    )


def ids(index: Index, query: str, **options) -> list[str]:
    return [hit.chunk.id for hit in index.search(query, **options)]


def test_put_replace_remove_compact(tmp_path):
    with Writer(tmp_path, IndexConfig()) as writer, Index(tmp_path) as index:
        assert writer.put([new("a", "iron ore", "coal"), new("b", "iron slag", kind="waste")]) == 0
        assert sorted(ids(index, "iron")) == ["a-0", "b-0"]
        assert writer.put([new("a", "copper")]) == 1
        assert ids(index, "iron") == ["b-0"] and ids(index, "copper") == ["a-0"]
        assert index.counts()["dead"] == 2
        assert writer.compact() == 2
        assert ids(index, "iron") == ["b-0"] and ids(index, "copper") == ["a-0"] and index.counts()["dead"] == 0
        assert writer.remove(filters={"kind": "waste"}) == 1
        assert ids(index, "iron") == [] and index.document("b") is None
        assert writer.remove(["b", "absent"]) == 0


def test_vectors_stay_with_their_chunks_through_compaction(tmp_path):
    config = IndexConfig(embedder="given")
    vectors = np.eye(6, dtype=np.float32)
    with Writer(tmp_path, config) as writer, Index(tmp_path) as index:
        writer.put([new("a", "one", "two"), new("b", "three", "four")], vectors[:4])
        writer.put([new("c", "five", "six")], vectors[4:])
        writer.remove(["a"])
        for _ in range(2):
            for place, name in ((2, "b-0"), (3, "b-1"), (4, "c-0"), (5, "c-1")):
                assert index.search_with({}, vectors[place], 1)[0].chunk.id == name
            assert len(index.search_with({}, vectors[0], 10)) == 4
            writer.compact()
        assert [path.name for path in tmp_path.glob("vectors-*")] == ["vectors-000002.raw"]
        with pytest.raises(DataError, match="one vector"):
            writer.put([new("d", "seven")])
        with pytest.raises(DataError, match="do not fit"):
            writer.put([new("d", "seven")], np.ones((1, 3), np.float32))


def test_metadata_is_described_anew(tmp_path):
    with Writer(tmp_path, IndexConfig()) as writer, Index(tmp_path) as index:
        writer.put([new("a", "iron", year=1)])
        assert not writer.describe("a", "a", {"year": 1}, "o")
        assert writer.describe("a", "a", {"year": 2}, "o")
        assert ids(index, "iron", filters={"year": 1}) == [] and ids(index, "iron", filters={"year": 2}) == ["a-0"]


def test_one_writer_and_one_config(tmp_path):
    with Writer(tmp_path, IndexConfig()) as writer, pytest.raises(ArtifactError, match="another process"):
        writer.put([new("a", "iron")])
        Writer(tmp_path)
    with pytest.raises(ConfigError, match="words"):
        Writer(tmp_path, IndexConfig(words="trigram"))
    with pytest.raises(ArtifactError, match="no index"):
        Writer(tmp_path / "absent")


_KILLED = """
import sys
import numpy as np
from pathlib import Path
from bloomery.retrieve import IndexConfig
from bloomery.retrieve.store.schema import NewChunk, NewDocument
from bloomery.retrieve.store.writer import Writer
with Writer(Path(sys.argv[1]), IndexConfig(embedder="given")) as writer:
    round = int(sys.argv[2])
    print("ready", flush=True)
    for n in range(10_000):
        name = f"d{n % 40}"
        text = f"{name} common round{round} step{n}"
        place = dict(start=0, end=1, heading="")
        chunks = [NewChunk(id=f"{name}-{round}-{n}-{p}", text=f"{text} p{p}", **place) for p in (0, 1)]
        vectors = np.zeros((2, 64), np.float32)
        vectors[:, n % 40] = 1.0
        document = NewDocument(id=name, origin="o", source=name, digest=text.encode(), metadata={"r": round}, text=text,
                               chunks=chunks)
        writer.put([document], vectors)
        if n % 7 == 6:
            writer.remove([f"d{(n * 13) % 40}"])
        if n % 25 == 24:
            writer.compact()
"""


def test_a_kill_at_any_instant_leaves_a_whole_index(tmp_path):
    drawn = random.Random(0)
    folder = tmp_path / "index"
    for round_ in range(8):
        process = subprocess.Popen([sys.executable, "-c", _KILLED, folder, str(round_)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline().strip() == b"ready"
        time.sleep(drawn.uniform(0.02, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Index(folder) as index:
            check(index)


def check(index: Index) -> None:
    """Chunks, postings, vectors and fields agree."""
    chunks = list(index.chunks())
    hits = index.search_with({"common": 1}, None, 10_000)
    assert {hit.chunk.id for hit in hits} == {chunk.id for chunk in chunks}
    for chunk in chunks:
        query = np.zeros(64, np.float32)
        query[int(chunk.document_id[1:])] = 1.0
        near = index.search_with({}, query, 2)
        assert {hit.chunk.document_id for hit in near} == {chunk.document_id}
        assert all(hit.score == 1.0 for hit in near)
        step = chunk.text.split()[3]
        assert {hit.chunk.id for hit in index.search_with({step: 1}, None, 100)} >= {chunk.id}
    assert len(index.documents()) * 2 == len(chunks) == index.counts()["chunks"]
    names = {row["id"] for row in index.documents()}
    rounds = [value for n in range(9) for value in (row["id"] for row in index.documents({"r": n}))]
    assert sorted(rounds) == sorted(names)


def test_what_was_begun_and_never_filled_binds_nobody(tmp_path):
    """As a process leaves it that is killed before its first commit."""
    with Writer(tmp_path, IndexConfig(words="trigram")) as writer:
        assert writer.is_empty
    with Writer(tmp_path, IndexConfig()) as writer:
        writer.put([new("a", "iron")])
        assert not writer.is_empty and writer.config.words == "porter"
    with pytest.raises(ConfigError, match="another words"):
        Writer(tmp_path, IndexConfig(words="trigram"))


def test_vectors_know_what_made_them(tmp_path):
    with Writer(tmp_path, IndexConfig(embedder="given")) as writer:
        writer.use_embedder("one-0123")
        writer.put([new("a", "iron")], np.eye(2, dtype=np.float32)[:1])
        writer.use_embedder("one-0123")
        with pytest.raises(ConfigError, match="one-0123, and this embedder is one-4567"):
            writer.use_embedder("one-4567")


def test_vectors_of_before_names_were_kept_stay_without(tmp_path):
    with Writer(tmp_path, IndexConfig(embedder="given")) as writer:
        writer.put([new("a", "iron")], np.eye(2, dtype=np.float32)[:1])
        for name in ("one", "another"):
            writer.use_embedder(name)
