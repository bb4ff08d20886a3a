r"""Repeats: runs of at least N words that a corpus had before, found exactly, in bounded memory.

    index = RepeatIndex(folder, 50)
    for text in texts: index.add(text)          # in source order
    index.seal()
    for text in texts: index.cuts()             # again in order: the words of each that are repeated

Words are what stands between white space (characters, where a script has no spaces), compared as they are. A window of
N words is repeated if an equal window begins at least N words earlier, in an earlier text or earlier in this one; what
is cut are the words of all repeated windows, so that the first occurrence of everything stays. Lee et al. (2022,
"Deduplicating training data makes language models better") find the same windows as neighbours in a suffix array. They
count GPT-2's tokens, of which a word or a character of such a script is nearly always one or more: N words are no less
than N of their tokens, in Chinese and Thai twice as much, and no tokenizer is needed before there is a corpus.
Of a suffix array only the first N words of each suffix matter for that, so windows are hashed (64 bits), brought
together by hash on disk (spill.py) and then compared word by word: the corpus need not fit in memory, nor be cut into
shards between which nothing is found.

Words are compared by 64-bit digests. On disk are 24 bytes a word, and 16 more a repeated window; in memory one part of
a partition, and the mapped pages looked at. What is cut is decided on the texts as they came: a run that only comes to
be by cutting is not looked for.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bloomery.corpus.minhash import WordHasher, mix
from bloomery.corpus.spill import (
    PARTITIONS,
    Numbers,
    Records,
    Spill,
    firsts_of,
    groups,
    partition_file,
    records_of,
)
from bloomery.corpus.unspaced import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_BATCH_WORDS = 1 << 18
_COMPARED = 1 << 20


def words_of(text: str) -> list[str]:
    """What stands between white space, as it is; where a script has no spaces, each character."""
    return text.split() if text.isascii() else _WORD.findall(text)


def window_hashes(words: Numbers, size: int) -> Numbers:
    """(len(words) - size + 1,) hashes of every `size` words in a row, by doubling: log2(size) passes over them.

    A window's hash is made of those of two windows of half its length, the last pair overlapping as far as it must.
    """
    hashes, length = words, 1
    while length < size:
        step = min(length, size - length)
        hashes = _pair(hashes[:-step], hashes[step:], length + step)
        length += step
    return hashes if len(words) >= size else words[:0]


def _pair(first: Numbers, second: Numbers, length: int) -> Numbers:
    return mix(mix(first + np.uint64(length)) * np.uint64(0x9E3779B97F4A7C15) + second)


class RepeatIndex:
    """See the module. `folder` is made empty."""

    def __init__(self, folder: Path, size: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder, self._size = folder, size
        self._hasher = WordHasher()
        self._spill = Spill(folder / "windows")
        self._words = (folder / "words").open("wb")
        self._starts = (folder / "starts").open("wb")
        self._batch: list[str] = []
        self._ends: list[int] = []
        self._total = 0
        self.texts = 0

    def add(self, text: str) -> None:
        self._batch += words_of(text)
        self._ends.append(len(self._batch))
        self.texts += 1
        if len(self._batch) >= _BATCH_WORDS:
            self._flush()

    def _flush(self) -> None:
        words, ends = self._hasher.hashes(self._batch), np.array(self._ends, np.int64)
        counts = np.diff(ends, prepend=0)
        windows = window_hashes(words, self._size)
        within = np.arange(len(windows)) + self._size <= np.repeat(ends, counts)[: len(windows)]
        places = np.flatnonzero(within)
        self._spill.write(records_of(windows[places], places + self._total))
        self._words.write(words.astype("<u8").tobytes())
        self._starts.write((ends - counts + self._total).astype("<u8").tobytes())
        self._total += len(words)
        self._batch, self._ends = [], []

    def seal(self) -> int:
        """Find the repeated windows; returns how many there are."""
        self._flush()
        self._words.close()
        self._starts.close()
        self._mapped = self._map("words")
        self._begins = self._map("starts")
        # Keys that grow with the place: partitions, and the parts of each, come in the order of the texts.
        self._shift = np.uint64(64 - max(1, self._total.bit_length()))
        ordered = Spill(self._folder / "repeated")
        count = 0
        for partition in range(PARTITIONS):
            path = partition_file(self._folder / "windows", partition)
            for records, _ in groups([path], self._folder / "dividing"):
                found = self._checked(*firsts_of(records))
                ordered.write(found)
                count += len(found)
            path.unlink(missing_ok=True)
        self._runs = self._ordered_runs()
        self._next: tuple[int, int, int] | None = next(self._runs, None)
        self._text = 0
        return count

    def _map(self, name: str) -> Numbers:
        path = self._folder / name
        return np.memmap(path, "<u8", mode="r") if path.stat().st_size else np.empty(0, np.uint64)

    def _checked(self, firsts: Numbers, places: Numbers) -> Records:
        """Records (place, first) of the windows that are repeated, word for word."""
        apart = places - firsts >= np.uint64(self._size)
        order = np.argsort(places[apart])
        places, firsts = places[apart][order], firsts[apart][order]
        same = np.ones(len(places), bool)
        step = max(1, _COMPARED // self._size)
        for start in range(0, len(places), step):
            one, other = places[start : start + step], firsts[start : start + step]
            offsets = np.arange(self._size, dtype=np.uint64)
            equal = self._mapped[one[:, None] + offsets] == self._mapped[other[:, None] + offsets]
            same[start : start + step] = equal.all(axis=1)
        return records_of(places[same] << self._shift, firsts[same])

    def _ordered_runs(self) -> Iterator[tuple[int, int, int]]:
        """(start, end, first) of every stretch of words that repeated windows cover without a gap, in order."""
        start = end = first = -1
        for partition in range(PARTITIONS):
            path = partition_file(self._folder / "repeated", partition)
            for records, _ in groups([path], self._folder / "dividing"):
                records = records[np.argsort(records["key"])]
                places = (records["key"] >> self._shift).astype(np.int64)
                for place, least in zip(places.tolist(), records["number"].tolist(), strict=True):
                    if place > end or self._crosses(end, place):
                        if end >= 0:
                            yield start, end, first
                        start, first = place, least
                    end = place + self._size
            path.unlink(missing_ok=True)
        if end >= 0:
            yield start, end, first

    def _crosses(self, end: int, place: int) -> bool:
        """Whether a stretch that ends where another begins ends with its text."""
        if place != end:
            return False
        at = int(np.searchsorted(self._begins, np.uint64(place)))
        return at < len(self._begins) and int(self._begins[at]) == place

    def cuts(self) -> list[tuple[int, int, int]]:
        """Of the next text (first word, word after the last, number of the text that has them first) of what is cut."""
        begin = int(self._begins[self._text])
        last = self._text + 1 == self.texts
        stop = self._total if last else int(self._begins[self._text + 1])
        self._text += 1
        found = []
        while self._next is not None and self._next[0] < stop:
            start, end, first = self._next
            owner = int(np.searchsorted(self._begins, np.uint64(first), "right")) - 1
            found.append((start - begin, end - begin, owner))
            self._next = next(self._runs, None)
        return found

    def close(self) -> None:
        """Delete the files."""
        self._words.close()
        self._starts.close()
        self._mapped = self._begins = np.empty(0, np.uint64)
        shutil.rmtree(self._folder, ignore_errors=True)


def spans_of(text: str, runs: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """The characters of runs of words, from each first word to where the next word that stays begins."""
    starts = [found.start() for found in _WORD.finditer(text)]
    starts.append(len(text))
    return [(starts[start], starts[end]) for start, end, _ in runs]


__all__ = ["RepeatIndex", "spans_of", "window_hashes"]
