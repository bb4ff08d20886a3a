"""Clusters: edges and connected components against networks in plain Python and SciPy's components."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bloomery.corpus import clusters
from bloomery.corpus.clusters import band_records, connected, edges_of, read_edges, write_edges

_SETTINGS = {"suppress_health_check": [HealthCheck.function_scoped_fixture], "max_examples": 60, "deadline": None}


def _least(count: int, edges: np.ndarray) -> list[int]:
    """The least number of each one's component, by SciPy."""
    ones = np.ones(len(edges))
    graph = coo_array((ones, (edges[:, 0].astype(int), edges[:, 1].astype(int))), shape=(count, count))
    components = connected_components(graph, directed=False)[1]
    return [int(np.flatnonzero(components == c)[0]) for c in components]


@settings(**_SETTINGS)
@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40), st.integers(1, 7))
def test_labels_are_the_least_of_each_component_as_scipy_finds_it(
    tmp_path: Path, pairs: list[tuple[int, int]], size: int
):
    edges = np.array(pairs, np.uint64).reshape(-1, 2)
    labels = connected(lambda: [edges[i : i + size] for i in range(0, len(edges), size)], 30, tmp_path / "labels")
    assert labels.tolist() == _least(30, edges)


def test_long_chains_in_any_order_are_one_cluster(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(clusters, "_BLOCK", 64)
    count = 3000
    order = np.random.default_rng(4).permutation(count)
    for numbers in (np.arange(count), np.arange(count)[::-1], order):
        edges = np.stack([numbers[:-1], numbers[1:]], axis=1).astype(np.uint64)
        write_edges(tmp_path / "edges", [edges])
        labels = connected(lambda: read_edges([tmp_path / "edges"]), count, tmp_path / "labels")
        assert not labels.any()
    assert connected(list, 0, tmp_path / "none").tolist() == []


@settings(**_SETTINGS)
@given(keys=st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=2), max_size=14))
def test_edges_connect_exactly_those_who_share_a_key(tmp_path: Path, keys: list[list[int]]):
    given_keys = np.array(keys, np.uint64).reshape(-1, 2)
    edges = edges_of(band_records(given_keys, 5))
    pairs = [(i + 5, j + 5) for i, j in combinations(range(len(keys)), 2) if set(keys[i]) & set(keys[j])]
    assert {tuple(e) for e in edges.tolist()} <= set(pairs)
    assert edges.tolist() == sorted(map(list, {tuple(e) for e in edges.tolist()}))
    count = len(keys) + 5
    assert _least(count, edges) == _least(count, np.array(pairs, np.uint64).reshape(-1, 2))


def test_who_is_absent_is_like_no_one_and_the_unlike_are_compared_among_themselves():
    keys = np.full((6, 3), 9, np.uint64)
    present = np.array([True, True, True, False, True, True])
    records = band_records(keys, 10, present)
    assert edges_of(records).tolist() == [[10, 11], [10, 12], [10, 14], [10, 15]]
    odd = edges_of(records, lambda some, others: some % np.uint64(2) == others % np.uint64(2))
    assert odd.tolist() == [[10, 12], [10, 14], [11, 15]]
    assert edges_of(records, lambda some, others: np.zeros(len(some), bool)).tolist() == []
