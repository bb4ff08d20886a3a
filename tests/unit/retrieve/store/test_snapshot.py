"""Snapshots: a newer one from an older one is the one that is read anew."""

from __future__ import annotations

import numpy as np

from bloomery.corpus.document import Document
from bloomery.retrieve import IndexConfig
from bloomery.retrieve.store.schema import NewChunk, NewDocument, Tables, read_counters
from bloomery.retrieve.store.snapshot import read_snapshot
from bloomery.retrieve.store.writer import Writer


def new(name: str, *texts: str) -> NewDocument:
    chunks = [NewChunk(id=f"{name}{n}", start=n, end=n + 1, heading="", text=text) for n, text in enumerate(texts)]
    text = " ".join(texts)
    digest = Document.of(text, name).id.encode()
    return NewDocument(id=name, origin="o", source=name, digest=digest, metadata={}, text=text, chunks=chunks)


def test_deltas(tmp_path):
    known = None
    with Writer(tmp_path, IndexConfig()) as writer:
        for step in (
            lambda: writer.put([new("a", "iron ore", "coal"), new("b", "slag")]),
            lambda: writer.put([new("a", "steel"), new("c", "x", "y")]),
            lambda: writer.remove(["b"]),
            lambda: writer.compact(),
            lambda: writer.put([new("d", "z")]),
        ):
            step()
            tables = Tables(tmp_path, create=False)
            with tables.reading() as db:
                counters = read_counters(db)
                known = read_snapshot(db, counters, known)
                anew = read_snapshot(db, counters)
            tables.close()
            np.testing.assert_array_equal(known.live, anew.live)
            np.testing.assert_array_equal(known.lengths[known.live], anew.lengths[anew.live])
            np.testing.assert_array_equal(known.documents[known.live], anew.documents[anew.live])
        assert known is not None and known.mean_terms == 1.0  # steel, x, y, z
    assert known is not None and known.num_live == 4 and known.counters.generation == 1
