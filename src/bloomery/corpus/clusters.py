"""Clusters: pairs of candidates from the records of one partition, and the sets that all pairs together connect.

    edges = edges_of_partition(files, scratch)            # (M, 2) arrays: a document and one before it that it is like
    labels = connected(lambda: edges, count, path)        # (count,): of each document the first of its cluster

Both are pure functions of their files: partitions are worked on anywhere, in any order, and the clusters, which are
what the pairs connect, are the same. Documents are numbers in source order. This module does not know texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.spill import RECORD, Numbers, Records, firsts_of, groups, records_of

Edges = NDArray[np.uint64]
Similar = Callable[[Numbers, Numbers], NDArray[np.bool_]]
_LEADERS = 16
_BLOCK = 1 << 20


def band_records(keys: NDArray[np.uint64], first: int, present: NDArray[np.bool_] | None = None) -> Records:
    """(N * bands,) records of the band keys (N, bands) of the documents numbered `first`, `first` + 1 and so on.

    `present` (N,) says which of them take part: a text without words is like no other.
    """
    documents = np.arange(first, first + len(keys), dtype=np.uint64)
    if present is not None:
        keys, documents = keys[present], documents[present]
    return records_of(keys, documents[:, None])


def edges_of_partition(files: Iterable[Path], scratch: Path, similar: Similar | None = None) -> Iterator[Edges]:
    """The edges of one partition, in arrays of a bounded size. `scratch` is a folder for this partition alone."""
    for records, _ in groups(files, scratch):
        yield edges_of(records, similar)


def edges_of(records: Records, similar: Similar | None = None) -> Edges:
    """(M, 2) numbers, the smaller first, ascending and each pair once: for each key its first document with the others.

    The others are connected through the first, and clusters need no more of the pairs. With `similar` (of two arrays of
    numbers, which pairs are) only similar ones are connected; then the first of those that are not like the first is
    compared with the rest, and so on, for up to 16 different documents under one key.
    """
    firsts, others = firsts_of(records)
    if similar is None:
        return _unique(firsts, others)
    found = []
    for _ in range(_LEADERS):
        if not len(firsts):
            break
        alike = similar(firsts, others)
        found.append((firsts[alike], others[alike]))
        # Those left of one key had the same first; of two keys with the same first, too: they may well be compared.
        firsts, others = firsts_of(records_of(firsts[~alike], others[~alike]))
    if not found:
        return np.empty((0, 2), np.uint64)
    return _unique(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _unique(firsts: Numbers, others: Numbers) -> Edges:
    order = np.lexsort((others, firsts))
    firsts, others = firsts[order], others[order]
    new = np.ones(len(firsts), bool)
    new[1:] = (firsts[1:] != firsts[:-1]) | (others[1:] != others[:-1])
    return np.stack([firsts[new], others[new]], axis=1)


def write_edges(path: Path, edges: Iterable[Edges]) -> int:
    """Write edges to a file; returns how many."""
    count = 0
    with path.open("wb") as stream:
        for block in edges:
            stream.write(block.astype("<u8").tobytes())
            count += len(block)
    return count


def read_edges(files: Iterable[Path]) -> Iterator[Edges]:
    """The edges of some files, a bounded number at a time."""
    for path in files:
        with path.open("rb") as stream:
            while data := stream.read(_BLOCK * RECORD.itemsize):
                yield np.frombuffer(data, "<u8").reshape(-1, 2)


def connected(edges: Callable[[], Iterable[Edges]], count: int, path: Path) -> NDArray[np.unsignedinteger]:
    """(count,) the least number in each number's connected component, its own where nothing connects it.

    `edges` gives all edges anew at each call; they are read a few times. The labels lie in a file at `path` that is
    mapped into memory, 4 bytes a number (8 beyond four billion), so that what is not in use need not be in memory.
    Union by the smaller root and pointer jumping: each pass at least halves the number of components left to join.
    """
    dtype = np.uint32 if count < 1 << 32 else np.uint64
    labels = np.memmap(path, dtype, mode="w+", shape=(max(1, count),))
    for start in range(0, count, _BLOCK):
        labels[start : start + _BLOCK] = np.arange(start, min(count, start + _BLOCK), dtype=dtype)
    joined = True
    while joined:
        joined = False
        for block in edges():
            roots = labels[block]
            low, high = roots.min(axis=1), roots.max(axis=1)
            apart = low != high
            if apart.any():
                joined = True
                np.minimum.at(labels, high[apart], low[apart])
        if joined:
            _flatten(labels, count)
    return labels[:count]


def _flatten(labels: NDArray[np.unsignedinteger], count: int) -> None:
    """Let every number point at its root. A label is never greater than its number: smaller ones are done before."""
    for start in range(0, count, _BLOCK):
        block = labels[start : start + _BLOCK]
        while True:
            next_block = labels[block]
            if (next_block == block).all():
                break
            block = next_block
        labels[start : start + _BLOCK] = block
