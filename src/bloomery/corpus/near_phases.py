"""Near-duplicate phases: what a process does with a shard of documents, and with a partition of what shards gave.

    sign(batches of texts, first, ...)  -> sketches in a file, band records in a folder     one a shard
    join(partition, folders, ...)       -> edges in a file                                  one a partition
    connected(...)                      -> labels (clusters.py)                             once

The first two can run anywhere and in any order; the third reads what they left. This module does not know who runs them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.clusters import Similar, band_records, edges_of_partition, write_edges
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.minhash import Signer, agreement
from bloomery.corpus.shards import read_folder
from bloomery.corpus.spill import Numbers, Spill, partition_file

_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 4096
_COMPARED = 1 << 14
SKETCH = np.dtype("<u2")
"""Of each value of a signature the lowest 16 bits are kept: enough to estimate a similarity (two different values
have equal ones once in 65,536)."""


def signer_of(config: DedupConfig) -> Signer:
    """The signer that a config asks for."""
    return Signer(words=config.near_words, bands=config.near_bands, rows=config.near_rows)


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in lists of about a megabyte."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def sign(texts: Iterable[Sequence[str]], first: int, config: DedupConfig, *, folder: Path, sketches: Path) -> int:
    """Sign batches of texts, the first of which is document `first`; returns how many texts there were.

    `folder` gets the band records (a Spill of its own); the file `sketches` gets each document's sketch, (K,) SKETCH,
    at its number's place, so that many may write to it at once.
    """
    signer, spill = signer_of(config), Spill(folder)
    width = signer.bands * signer.rows * SKETCH.itemsize
    number = first
    descriptor = os.open(sketches, os.O_WRONLY | os.O_CREAT, 0o644)
    with open(descriptor, "wb", buffering=0) as stream:  # noqa: PTH123 not truncated: others write to it too
        for batch in texts:
            signatures, shingles = signer.signatures(batch)
            spill.write(band_records(signer.band_keys(signatures), number, shingles > 0))
            stream.seek(number * width)
            _write_all(stream.fileno(), signatures.astype(SKETCH).tobytes())
            number += len(batch)
    return number - first


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sign_shard(folder: Path, name: str, first: int, config: DedupConfig, *, out: Path, sketches: Path) -> int:
    """`sign` of the documents in shards called `name` in a folder."""
    texts = ([document.text for document in batch] for batch in batches(read_folder(folder, name)))
    return sign(texts, first, config, folder=out, sketches=sketches)


def join(
    partition: int, folders: Sequence[Path], config: DedupConfig, *, sketches: Path, scratch: Path, out: Path
) -> int:
    """Write the edges of a partition, whose records lie in these folders, to the file `out`; returns how many.

    `scratch` is a folder for this partition alone, made if it is needed. Nothing is deleted, so that a task that died can be done again.
    """
    files = [partition_file(folder, partition) for folder in folders]
    similar = Sketches(sketches, config).at_least(config.near_similarity) if config.near_similarity else None
    return write_edges(out, edges_of_partition(files, scratch, similar))


class Sketches:
    """The sketches of all documents, read from their file as they are needed."""

    def __init__(self, path: Path, config: DedupConfig) -> None:
        width = config.near_bands * config.near_rows
        rows = path.stat().st_size // (width * SKETCH.itemsize)
        self._rows = np.memmap(path, SKETCH, mode="r", shape=(rows, width)) if rows else np.empty((0, width), SKETCH)

    def similarity(self, some: Numbers, others: Numbers) -> NDArray[np.float64]:
        """(N,) the estimated Jaccard similarity of each of the documents `some` with that of `others`."""
        found = np.empty(len(some))
        for start in range(0, len(some), _COMPARED):
            part = slice(start, start + _COMPARED)
            found[part] = agreement(self._rows[some[part]], self._rows[others[part]])
        return found

    def at_least(self, similarity: float) -> Similar:
        """Which pairs are at least this similar, as `edges_of` asks it."""
        return lambda some, others: self.similarity(some, others) >= similarity - 1e-9
