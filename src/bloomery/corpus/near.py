"""Near duplicates: of documents that are nearly the same the first is kept, in bounded memory.

    stage -> sign each shard -> join each partition -> connect -> the documents again, less those in a cluster's tail

Documents wait in shards of the run's scratch folder; shards and partitions are worked on by as many processes as there
are workers, and what is kept is the same for any number. In memory are a batch of texts, one partition's part, and what
the system keeps of mapped files: 28 bytes a document (labels, sizes, clusters, ids), and the sketches looked at. On
disk are the texts, and of each document 2 bytes a value of its signature and 16 a band: 448 for 14 bands of 8.

A cluster is what pairs that meet connect, so that its last document need not be like its first: the report says how
similar those dropped are to those kept, and `near_similarity` holds pairs to a least similarity. This module does not
know what makes documents alike, nor how a corpus is divided.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.config import to_dict
from bloomery.corpus.clusters import connected, read_edges
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.near_crew import Crew, NearCrew
from bloomery.corpus.near_phases import Sketches
from bloomery.corpus.near_report import NearReport
from bloomery.corpus.spill import PARTITIONS
from bloomery.corpus.staged import StagedDocuments

REASON = "near_duplicate"
Drop = Callable[[Document, str, str, Mapping[str, Any]], None]
Tell = Callable[[int, int, str], None]
"""Hears how far a long piece of work is: done, of how many, of what."""
_BLOCK = 1 << 16


class NearDuplicates:
    """`kept(documents, drop)` gives the first of each cluster and all that are in none, in order."""

    def __init__(
        self,
        config: DedupConfig,
        *,
        scratch: Path,
        workers: int = 1,
        crew: Crew | None = None,
        tell: Tell = lambda done, total, unit: None,
    ) -> None:
        """`crew` does the phases' tasks, on the same files; the default is `workers` processes of this machine."""
        self.config, self._crew, self._tell = config, crew or NearCrew(workers), tell
        self._scratch = scratch / "near"
        self.told = NearReport(config)

    def kept(self, documents: Iterable[Document], drop: Drop) -> Iterator[Document]:
        """`drop(document, reason, detail, more)` is told of the others: cluster, document kept, similarity to it.

        A kept document of a cluster has `near_cluster` and `near_cluster_size` in its metadata.
        """
        with closing(StagedDocuments(self._scratch)) as staged:
            for _ in staged.stage(documents):
                pass
            yield from self._told(staged, self.labels(staged), drop)

    def labels(self, staged: StagedDocuments) -> NDArray[np.unsignedinteger]:
        """(documents,) of each document the first of its cluster, itself where it is in none."""
        scratch, config = self._scratch, to_dict(self.config)
        # One shard is done before processes have started.
        crew = self._crew if len(staged.counts) > 1 else NearCrew(1)
        sketches = scratch / "sketches"
        sketches.touch()
        starts = staged.starts
        folders = [str(scratch / f"records-{shard:06}") for shard in range(len(staged.counts))]
        same = {"config": config, "sketches": str(sketches)}
        crew.run(
            [
                {"do": "sign", "folder": str(scratch), "name": staged.shard(n), "first": starts[n], "out": out, **same}
                for n, out in enumerate(folders)
            ],
            lambda done: self._tell(done, len(folders), "shards signed"),
        )
        edges = [scratch / f"edges-{partition:02}" for partition in range(PARTITIONS)]
        crew.run(
            [
                {
                    "do": "join",
                    "partition": partition,
                    "folders": folders,
                    "scratch": str(scratch / f"joining-{partition:02}"),
                    "out": str(out),
                    **same,
                }
                for partition, out in enumerate(edges)
            ],
            lambda done: self._tell(done, PARTITIONS, "partitions joined"),
        )
        for folder in folders:
            shutil.rmtree(folder)
        self.told.add_pairs(self._pairs(edges))
        return connected(lambda: read_edges(edges), starts[-1], scratch / "labels")

    def _pairs(self, edges: list[Path]) -> Iterator[NDArray[np.float64]]:
        """The estimated similarities of the pairs that met."""
        sketches = Sketches(self._scratch / "sketches", self.config)
        for block in read_edges(edges):
            yield sketches.similarity(block[:, 0], block[:, 1])

    def _told(self, staged: StagedDocuments, labels: NDArray[np.unsignedinteger], drop: Drop) -> Iterator[Document]:
        count = len(labels)
        sizes = np.memmap(self._scratch / "sizes", labels.dtype, mode="w+", shape=(max(1, count),))
        for start in range(0, count, _BLOCK):
            np.add.at(sizes, labels[start : start + _BLOCK], 1)
        clusters = np.memmap(self._scratch / "clusters", labels.dtype, mode="w+", shape=(max(1, count),))
        sketches = Sketches(self._scratch / "sketches", self.config)
        self.told.documents = count
        self.told.watch(sizes)
        found = 0
        similarities: NDArray[np.float64] = np.empty(0)
        for number, document in enumerate(staged.read()):
            self._tell(number + 1, count, "documents compared")
            if number % _BLOCK == 0:
                block = np.arange(number, min(count, number + _BLOCK), dtype=np.uint64)
                similarities = sketches.similarity(block, labels[number : number + _BLOCK].astype(np.uint64))
            first = int(labels[number])
            size = int(sizes[first])
            if first == number:
                if size == 1:
                    yield document
                    continue
                clusters[number] = found
                self.told.add_kept(number, found, size, document)
                yield replace(
                    document, metadata={**document.metadata, "near_cluster": found, "near_cluster_size": size}
                )
                found += 1
                continue
            similarity = round(float(similarities[number % _BLOCK]), 4)
            kept = staged.id_of(first)
            self.told.add_dropped(first, document, similarity)
            said = f"like {kept}, similarity {similarity:.2f} (estimated)"
            more = {"cluster": int(clusters[first]), "kept": kept, "similarity": similarity}
            drop(document, REASON, said, more)
