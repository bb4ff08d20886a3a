r"""Decontamination: does a document share a run of n words with held-out text?

Words are `\w+` of the case-folded text, with their combining marks; where a script has no spaces each character is one,
and counts half: 13 characters of Chinese are eight words or nine, and more texts share those by chance. Every run of n
words is a 64-bit hash; those of the held-out text lie sorted in a file that is searched through a memory map, so memory
does not grow with it. Two different runs have equal hashes with a chance of about 2**-64. This module does not know
splits or shards.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.document import Document
from bloomery.corpus.unspaced import UNSPACED, UNSPACED_CHARACTER

Hashes = NDArray[np.uint64]
_BUCKETS = 64
_BUFFER_RUNS = 1 << 20
_KNOWN_WORDS = 1 << 18
_BATCH_CHARACTERS = 1 << 20


def words_of(text: str) -> list[str]:
    """The words that decontamination compares."""
    return _word().findall(text.casefold())


@cache
def _word() -> re.Pattern[str]:
    r"""`\w` has no combining marks: it would cut Hindi at every vowel sign."""
    marks = (one for one in map(chr, range(0x300, 0x20000)) if unicodedata.category(one) in ("Mn", "Mc"))
    inside = "".join(one for one in marks if not UNSPACED_CHARACTER.match(one))
    return re.compile(rf"[{UNSPACED}]|(?:[^\W{UNSPACED}]+[{inside}]*)+")


def length_of(words: Sequence[str]) -> float:
    """How many words these count as: a character of a script without spaces is half a word."""
    return sum(map(_halves, words)) / 2


def _halves(word: str) -> int:
    return 1 if UNSPACED_CHARACTER.match(word) else 2


class RunHasher:
    """Hashes of all runs of `length` words of a text.

    From each word on a run goes as far as makes `length` words, by `length_of`, or, without `halves`, by their number.
    """

    def __init__(self, length: float, *, halves: bool = True) -> None:
        self.length, self._halves = length, halves
        self._known: dict[str, int] = {}
        self._unspaced: set[str] = set()  # of the known ones
        # Fixed odd multipliers, one per place in the run: the hash depends on the order of words.
        rng = np.random.Generator(np.random.PCG64(13))
        places = round(length * 2)
        self._multipliers = rng.integers(0, 1 << 63, size=places, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

    def hashes(self, words: list[str]) -> Hashes:
        """(runs,) uint64, in the order of the text: of the words from which on there are enough."""
        known = self._known
        if len(known) > _KNOWN_WORDS:
            known.clear()
            self._unspaced.clear()
        new = set(words).difference(known)
        for word in new:
            known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        if self._halves:
            self._unspaced.update(filter(UNSPACED_CHARACTER.match, new))
        each = np.fromiter(map(known.__getitem__, words), np.uint64, len(words))
        if not self._unspaced.isdisjoint(words):
            return self._of_any_script(words, each)
        count = max(0, len(words) - int(self.length) + 1)
        total = np.zeros(count, np.uint64)
        for place, multiplier in enumerate(self._multipliers[: int(self.length)]):
            total += each[place : place + count] * multiplier
        return total

    def _of_any_script(self, words: list[str], each: Hashes) -> Hashes:
        halves = np.fromiter((2 - (word in self._unspaced) for word in words), np.int64, len(words))
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(halves)])
        ends = np.searchsorted(before, before[:-1] + round(self.length * 2))
        ends = ends[ends <= len(words)]
        sizes = ends - np.arange(len(ends))
        total = np.zeros(len(ends), np.uint64)
        for place, multiplier in enumerate(self._multipliers[: sizes.max(initial=0)]):
            longer = np.flatnonzero(sizes > place)
            total[longer] += each[longer + place] * multiplier
        return total

    def run(self, words: list[str], start: int) -> str:
        """The run that begins with the word at `start`, as one can read it."""
        halves = accumulate(map(_halves, words[start:])) if self._halves else range(2, 2 * len(words) + 2, 2)
        size = 1 + next(place for place, count in enumerate(halves) if count >= self.length * 2)
        return " ".join(words[start : start + size])


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

    def add(self, words: list[str]) -> None:
        """A text, as words."""
        hashes = self._hasher.hashes(words)
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
        words = [words_of(document.text) for document in batch]
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
                reason, run = name, hasher.run(each, int(flags[start:end].argmax()))
                break
        yield reason, run
        start = end
