"""VectorFile: vectors of length one, row by row, in a file that is mapped into memory.

The file holds nothing but numbers, of one size. It is longer than what counts where a writer was killed; the next one
writes over that. This module does not know how many rows count, nor what is at a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from bloomery.core.errors import ArtifactError

Precision = Literal["float32", "float16"]
_BLOCK_BYTES = 4 * 1024 * 1024
"""Of float32 numbers at once: what fits a processor's cache."""


class VectorFile:
    """`path` of rows of `dimension` numbers."""

    def __init__(self, path: Path, dimension: int, precision: Precision) -> None:
        self.path, self.dimension = path, dimension
        self.dtype = np.dtype("<f4" if precision == "float32" else "<f2")

    @property
    def row_bytes(self) -> int:
        return self.dimension * self.dtype.itemsize

    def write(self, first_row: int, vectors: np.ndarray) -> None:
        """Rows from `first_row` on, (N, E); on disk when this returns."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b") as stream:
            stream.seek(first_row * self.row_bytes)
            stream.write(np.ascontiguousarray(vectors, self.dtype).tobytes())
            stream.flush()
            os.fsync(stream.fileno())

    def rows(self, count: int) -> np.ndarray:
        """(count, E) of the file's numbers, mapped. FileNotFoundError without the file, ArtifactError where it is
        shorter."""
        if not count:
            return np.zeros((0, self.dimension), self.dtype)
        if self.path.stat().st_size < count * self.row_bytes:
            raise ArtifactError(f"{self.path} lacks vectors: it is damaged", hint="index again with --fresh")
        return np.memmap(self.path, self.dtype, mode="r", shape=(count, self.dimension))


def products(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """(N,) float32 inner products of rows (N, E) with a vector (E,): one pass of memory, at its speed. Rows of float16
    in blocks that are made float32."""
    if rows.dtype == np.float32:
        return np.asarray(rows) @ query
    scores = np.empty(len(rows), np.float32)
    for start, end in blocks(len(rows), rows.shape[1]):
        np.dot(rows[start:end].astype(np.float32, copy=False), query, out=scores[start:end])
    return scores


def blocks(rows: int, dimension: int) -> Iterator[tuple[int, int]]:
    """(start, end) of blocks of rows that fit a cache."""
    size = max(1, _BLOCK_BYTES // (4 * dimension))
    for start in range(0, rows, size):
        yield start, min(rows, start + size)
