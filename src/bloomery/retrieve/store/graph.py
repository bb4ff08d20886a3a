"""Graph: the nearest vectors by a graph (HNSW; Malkov and Yashunin, arXiv 1603.09320) of usearch, past what is quick
to search in full.

The graph is made of the vector file and can be made again at any time: it is written beside its place and renamed into
it, and one that is missing, or of another generation, is searched without. Rows that came after it are searched in
full. It finds nearly all, not all: `benchmarks/bench_retrieval.py` says how many. This module does not know filters.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.retrieve.store.schema import Counters

_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 32, 200, 256
_PAGE = 8192


def graph_path(folder: Path, counters: Counters) -> Path:
    """The graph of a generation's rows."""
    return folder / f"graph-{counters.generation:06}.usearch"


def can_graph() -> bool:
    """Whether usearch is installed."""
    return find_spec("usearch") is not None


def grow(path: Path, vectors: np.ndarray, live: np.ndarray) -> int:
    """A graph of all live rows (rows, E), made anew or grown by those that it lacks. Returns how many were added."""
    index = _empty(vectors.shape[1])
    if path.is_file():
        index.load(str(path))
    known = int(max(index.keys)) + 1 if len(index) else 0
    rows = np.flatnonzero(live[known:]) + known
    for start in range(0, len(rows), _PAGE):
        chosen = rows[start : start + _PAGE]
        index.add(chosen.astype(np.uint64), vectors[chosen].astype(np.float32), threads=1)
    if len(rows):
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        index.save(str(beside))
        beside.replace(path)
    return len(rows)


class Graph:
    """A graph file, mapped. `rows` is how many rows, from the first, it covers."""

    def __init__(self, path: Path, dimension: int) -> None:
        self._index = _empty(dimension)
        self._index.view(str(path))
        self.rows = int(max(self._index.keys)) + 1 if len(self._index) else 0

    def nearest(self, query: np.ndarray, k: int) -> np.ndarray:
        """(at most k,) int64 rows near a vector (E,), dead ones too."""
        if not len(self._index):
            return np.zeros(0, np.int64)
        return np.asarray(self._index.search(query, min(k, len(self._index))).keys, np.int64)


def _empty(dimension: int) -> Any:
    from usearch.index import Index

    return Index(
        ndim=dimension,
        metric="ip",
        dtype="f32",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
        expansion_search=_EXPANSION_SEARCH,
    )
