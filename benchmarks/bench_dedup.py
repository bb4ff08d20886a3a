"""A million short documents without their near duplicates: time, memory of all processes together, clusters, recall.

    python benchmarks/bench_dedup.py [--documents N] [--workers N] [--folder DIR]

Texts are 40 to 60 words by chance, words as frequent as in language; one in four is a copy of an earlier one in which
one to four words are others. What the copies' similarities are is known, so that the share of them found is printed
beside what 1 - (1 - s**rows)**bands says. Memory is the sum over this process and its children of what is resident,
looked at ten times a second; pages of mapped files that several of them share count as often. The digest is of what was
kept and of the cluster of every document that was not: the same for any number of workers.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bloomery.corpus import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.minhash import s_curve
from bloomery.corpus.near import NearDuplicates

COPIES = 0.25
VOCABULARY = 50_000
BLOCK = 10_000


class Memory(threading.Thread):
    """The most that this process and its children held together, and each kind of process at most, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.together = self.parent = self.child = 0
        self.halt = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.halt.wait(0.1):
            own, children = me.memory_info().rss, []
            for child in me.children(recursive=True):
                try:
                    children.append(child.memory_info().rss)
                except psutil.Error:
                    continue
            self.together = max(self.together, own + sum(children))
            self.parent, self.child = max(self.parent, own), max([self.child, *children])


def texts(count: int) -> Iterator[tuple[str, float]]:
    """(text, similarity to the text that it copies, or 0), the same ones in every run."""
    rng = np.random.default_rng(11)
    frequency = 1.0 / np.arange(1, VOCABULARY + 1)
    words = np.array([f"w{n:x}" for n in range(VOCABULARY)], object)
    shares = np.cumsum(frequency / frequency.sum())
    before: list[np.ndarray] = []
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        lengths = rng.integers(40, 61, size)
        numbers = np.minimum(np.searchsorted(shares, rng.random(lengths.sum())), VOCABULARY - 1)
        originals = np.split(numbers, np.cumsum(lengths)[:-1])
        copies = np.flatnonzero(rng.random(size) < COPIES) if before else []
        similarity = np.zeros(size)
        for place in copies:
            one = before[rng.integers(len(before))]
            other = one.copy()
            other[rng.choice(len(one), rng.integers(1, 5), replace=False)] = rng.integers(VOCABULARY)
            originals[place], similarity[place] = other, jaccard(one, other)
        before = originals[:: max(1, BLOCK // 2000)]
        for own, alike in zip(originals, similarity.tolist(), strict=True):
            yield " ".join(words[own]), alike


def jaccard(one: np.ndarray, other: np.ndarray, size: int = 5) -> float:
    """The similarity of the sets of runs of five words."""
    sets = [set(map(bytes, np.lib.stride_tricks.sliding_window_view(t, size))) for t in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where what does not fit in memory lies")
    given = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}")
    config = DedupConfig(near=True)
    planted: dict[str, float] = {}

    def documents() -> Iterator[Document]:
        for number, (text, similarity) in enumerate(texts(given.documents)):
            if similarity and number % 4 == 0:
                planted[str(number)] = similarity
            yield Document.of(text, str(number))

    dropped = 0
    found: list[str] = []
    digest = hashlib.sha256()

    def drop(document: Document, reason: str, detail: str, more: Mapping[str, Any]) -> None:
        nonlocal dropped
        dropped += 1
        digest.update(f"{document.id} {more['cluster']} {more['kept']}\n".encode())
        if document.source in planted:
            found.append(document.source)

    memory = Memory()
    memory.start()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        began = time.perf_counter()
        near = NearDuplicates(config, scratch=Path(folder), workers=given.workers)
        kept = sum(1 for document in near.kept(documents(), drop) if digest.update(document.id.encode()) is None)
        seconds = time.perf_counter() - began
    memory.halt.set()
    told = near.told.report()
    print(f"{given.documents:,} documents, {given.workers} workers: {seconds:,.0f} s, their making included")
    print(f"kept {kept:,}, dropped {dropped:,} in {told['clusters']:,} clusters, the largest of {told['largest']:,}")
    peak = f"{memory.together / 1e9:.2f} GB together, {memory.parent / 1e9:.2f} the parent"
    print(f"most memory: {peak}, {memory.child / 1e9:.2f} the largest other")
    shape = {"bands": config.near_bands, "rows": config.near_rows}
    expected = np.array([s_curve(s, **shape) for s in planted.values()])
    error = np.sqrt((expected * (1 - expected)).sum()) / max(1, len(planted))
    print(f"of {len(planted):,} copies looked at: found {len(found) / max(1, len(planted)):.4f}", end="")
    print(f", the curve says {expected.mean():.4f} +- {error:.4f} (more: copies of one text find each other)")
    print(f"digest {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
