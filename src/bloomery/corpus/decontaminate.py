r"""Decontamination: does a document share a run of n words with held-out text?

Words are `\w+` of the case-folded text. Every run of n words is a 64-bit hash; those of the held-out text lie sorted
in a file that is searched through a memory map, so memory does not grow with it. Two different runs have equal hashes
with a chance of about 2**-64. This module does not know splits or shards.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.document import Document

Hashes = NDArray[np.uint64]
_WORD = re.compile(r"\w+")
_BUCKETS = 64
_BUFFER_RUNS = 1 << 20
_KNOWN_WORDS = 1 << 18
_BATCH_CHARACTERS = 1 << 20


def words_of(text: str) -> list[str]:
    """The words that decontamination compares."""
    return _WORD.findall(text.casefold())


class RunHasher:
    """Hashes of all runs of `length` words of a text; `words` says what its words are."""

    def __init__(self, length: int, words: Callable[[str], list[str]] = words_of) -> None:
        self.length, self.words = length, words
        self._known: dict[str, int] = {}
        # Fixed odd multipliers, one per place in the run: the hash depends on the order of words.
        rng = np.random.Generator(np.random.PCG64(13))
        self._multipliers = rng.integers(0, 1 << 63, size=length, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

    def hashes(self, words: list[str]) -> Hashes:
        """(max(0, words - length + 1),) uint64, in the order of the text."""
        count = len(words) - self.length + 1
        if count <= 0:
            return np.empty(0, np.uint64)
        known = self._known
        if len(known) > _KNOWN_WORDS:
            known.clear()
        for word in set(words).difference(known):
            known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        each = np.fromiter(map(known.__getitem__, words), np.uint64, len(words))
        total = np.zeros(count, np.uint64)
        for place, multiplier in enumerate(self._multipliers):
            total += each[place : place + count] * multiplier
        return total


class HeldOutRuns:
    """The runs of held-out documents: `add` them all, `seal`, then ask `contains`.

    `folder` is made empty and holds 8 bytes a run; at most 1/64 of the runs are in memory at a time.
    """

    def __init__(self, folder: Path, hasher: RunHasher) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        self._folder, self._hasher = folder, hasher
        self._buffer: list[Hashes] = []
        self._buffered = 0
        self._sorted: Hashes = np.empty(0, np.uint64)

    def add(self, text: str) -> None:
        hashes = self._hasher.hashes(self._hasher.words(text))
        self._buffer.append(hashes)
        self._buffered += len(hashes)
        if self._buffered >= _BUFFER_RUNS:
            self._spill()

    def _spill(self) -> None:
        """Append the buffered hashes to the bucket files of their highest six bits."""
        hashes = np.unique(np.concatenate(self._buffer)) if self._buffer else np.empty(0, np.uint64)
        self._buffer, self._buffered = [], 0
        borders = np.searchsorted(hashes >> np.uint64(58), np.arange(_BUCKETS + 1, dtype=np.uint64))
        for bucket in range(_BUCKETS):
            part = hashes[borders[bucket] : borders[bucket + 1]]
            if len(part):
                with (self._folder / f"{bucket:02}").open("ab") as stream:
                    stream.write(part.tobytes())

    def seal(self) -> int:
        """Sort what was added; returns the number of different runs."""
        self._spill()
        path = self._folder / "sorted"
        with path.open("wb") as stream:
            for bucket in range(_BUCKETS):
                part = self._folder / f"{bucket:02}"
                if part.exists():
                    stream.write(np.unique(np.fromfile(part, np.uint64)).tobytes())
                    part.unlink()
        if path.stat().st_size:
            self._sorted = np.memmap(path, np.uint64, mode="r")
        return len(self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)

    def contains(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of the hashes are among the sealed runs."""
        if not len(self._sorted):
            return np.zeros(len(hashes), bool)
        # Sorted queries walk the file from front to back instead of jumping about in it.
        order = np.argsort(hashes)
        queries = hashes[order]
        places = np.searchsorted(self._sorted, queries)
        places[places == len(self._sorted)] = 0
        found = np.empty(len(hashes), bool)
        found[order] = self._sorted[places] == queries
        return found


def overlaps(
    documents: Iterable[Document], hasher: RunHasher, held_out: Mapping[str, HeldOutRuns]
) -> Iterator[tuple[Document, str, str]]:
    """Every document in order with the first reason in `held_out` whose runs it shares and the first such run.

    Both are "" for a document that shares none.
    """
    for batch in in_batches(documents):
        words = [hasher.words(document.text) for document in batch]
        for document, found in zip(batch, first_shared(words, hasher, held_out), strict=True):
            yield document, *found


def in_batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents in lists of about a megabyte: what is looked up together is found faster."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def first_shared(
    words: list[list[str]], hasher: RunHasher, held_out: Mapping[str, HeldOutRuns]
) -> Iterator[tuple[str, str]]:
    """Of each text's words the first reason whose runs they share and the first such run; both "" if there is none."""
    hashes = [hasher.hashes(each) for each in words]
    together = np.concatenate(hashes)
    shared = {reason: runs.contains(together) for reason, runs in held_out.items()}
    start = 0
    for each, own in zip(words, hashes, strict=True):
        end = start + len(own)
        reason = run = ""
        for name, flags in shared.items():
            if flags[start:end].any():
                first = int(flags[start:end].argmax())
                reason, run = name, " ".join(each[first : first + hasher.length])
                break
        yield reason, run
        start = end
