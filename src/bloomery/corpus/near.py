"""Near duplicates: of documents that are nearly the same the first is kept, in bounded memory.

    stage -> sign each shard -> join each partition -> connect -> the documents again, less those in a cluster's tail

Documents wait in shards of the run's scratch folder; shards and partitions are worked on by as many processes as there
are workers, and what is kept is the same for any number. In memory are a batch of texts, one partition's part, and what
the system keeps of mapped files (6 bytes a document, and the sketches looked at). This module does not know what makes
documents alike, nor how a corpus is divided.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.config import to_dict
from bloomery.corpus.clusters import connected, read_edges
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import ID_DIGITS, Document
from bloomery.corpus.near_crew import Crew, NearCrew
from bloomery.corpus.near_phases import Sketches
from bloomery.corpus.near_report import NearReport
from bloomery.corpus.shards import SplitWriter, read_folder
from bloomery.corpus.spill import PARTITIONS

REASON = "near_duplicate"
Drop = Callable[[Document, str, str, Mapping[str, Any]], None]
_SHARD_BYTES = 64 * 1024 * 1024
_BLOCK = 1 << 16


class NearDuplicates:
    """`kept(documents, drop)` gives the first of each cluster and all that are in none, in order."""

    def __init__(self, config: DedupConfig, *, scratch: Path, workers: int = 1, crew: Crew | None = None) -> None:
        """`crew` does the phases' tasks, on the same files; the default is `workers` processes of this machine."""
        self.config, self._crew = config, crew or NearCrew(workers)
        self._scratch = scratch / "near"
        self.told = NearReport(config)

    def kept(self, documents: Iterable[Document], drop: Drop) -> Iterator[Document]:
        """`drop(document, reason, detail, more)` is told of the others: cluster, document kept, similarity to it.

        A kept document of a cluster has `near_cluster` and `near_cluster_size` in its metadata.
        """
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        counts = self._stage(documents)
        labels = self.labels(counts)
        yield from self._told(labels, drop)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _stage(self, documents: Iterable[Document]) -> list[int]:
        """Write the documents to shards of their own names; returns how many each has."""
        counts: list[int] = []
        writer: SplitWriter | None = None
        with (self._scratch / "ids").open("wb") as ids:
            for document in documents:
                if writer is None or writer.text_bytes >= _SHARD_BYTES:
                    if writer is not None:
                        writer.close()
                    writer = SplitWriter(self._scratch, f"shard{len(counts):06}", shard_bytes=1 << 60, level=1)
                    counts.append(0)
                writer.write(document)
                ids.write(document.id.encode().ljust(ID_DIGITS)[:ID_DIGITS])
                counts[-1] += 1
        if writer is not None:
            writer.close()
        return counts

    def labels(self, counts: list[int]) -> NDArray[np.unsignedinteger]:
        """(documents,) of each staged document the first of its cluster, itself where it is in none."""
        scratch, config = self._scratch, to_dict(self.config)
        # One shard is done before processes have started.
        crew = self._crew if len(counts) > 1 else NearCrew(1)
        sketches = scratch / "sketches"
        sketches.touch()
        starts = np.cumsum([0, *counts]).tolist()
        folders = [str(scratch / f"records-{shard:06}") for shard in range(len(counts))]
        same = {"config": config, "sketches": str(sketches)}
        crew.run(
            [
                {"do": "sign", "folder": str(scratch), "name": f"shard{n:06}", "first": starts[n], "out": out, **same}
                for n, out in enumerate(folders)
            ]
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
            ]
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

    def _told(self, labels: NDArray[np.unsignedinteger], drop: Drop) -> Iterator[Document]:
        count = len(labels)
        sizes = np.memmap(self._scratch / "sizes", labels.dtype, mode="w+", shape=(max(1, count),))
        for start in range(0, count, _BLOCK):
            np.add.at(sizes, labels[start : start + _BLOCK], 1)
        clusters = np.memmap(self._scratch / "clusters", labels.dtype, mode="w+", shape=(max(1, count),))
        ids = np.memmap(self._scratch / "ids", f"S{ID_DIGITS}", mode="r") if count else np.empty(0, f"S{ID_DIGITS}")
        sketches = Sketches(self._scratch / "sketches", self.config)
        self.told.documents = count
        self.told.watch(sizes)
        found = 0
        similarities: NDArray[np.float64] = np.empty(0)
        for number, document in enumerate(self._staged()):
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
            kept = ids[first].decode().strip()
            self.told.add_dropped(first, document, similarity)
            said = f"like {kept}, similarity {similarity:.2f} (estimated)"
            more = {"cluster": int(clusters[first]), "kept": kept, "similarity": similarity}
            drop(document, REASON, said, more)

    def _staged(self) -> Iterator[Document]:
        for path in sorted(self._scratch.glob("shard*.jsonl.zst")):
            yield from read_folder(self._scratch, path.name.split("-")[0])
            path.unlink()
