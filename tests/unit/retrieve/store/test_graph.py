"""The graph: near all of the exact neighbours, grown without being made anew."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.retrieve.embedding.embedder import unit
from bloomery.retrieve.store.graph import Graph, grow

pytest.importorskip("usearch")


def test_neighbours_and_growth(tmp_path):
    vectors = unit(np.random.default_rng(0).standard_normal((2000, 16)))
    live = np.ones(2000, bool)
    live[5] = False
    path = tmp_path / "graph-000000.usearch"
    assert grow(path, vectors[:1500], live[:1500]) == 1499
    assert grow(path, vectors, live) == 500
    assert grow(path, vectors, live) == 0
    graph = Graph(path, 16)
    assert graph.rows == 2000
    found = 0
    for query in vectors[:50]:
        exact = np.argsort(-np.where(live, vectors @ query, -2))[:10]
        found += len(np.intersect1d(exact, graph.nearest(query, 10)))
    assert found >= 0.95 * 500  # HNSW at this expansion finds nearly all among 2,000
    assert 5 not in graph.nearest(vectors[5], 10)
