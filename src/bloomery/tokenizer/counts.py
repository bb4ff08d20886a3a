"""WordCounts: how often each word of a text occurs, in bounded memory.

Words are what a tokenizer's normalizer and pre-tokenizer make of a text. They are counted by the `tokenizers` library,
a few megabytes of text at a time, on all its threads. Once there are more different ones than may be held, the table
goes to disk, sorted, and a new one is begun; at the end the sorted runs are merged. The library's trainers take texts,
not counts: `fed` gives them each word as often as it occurs, so what they learn is what they would have learnt from the
text itself. Their counts have 32 bits: larger ones are halved until they fit.

This module does not know kinds of tokenizers, nor what is learnt from words.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

SEPARATOR = "\U0010ffff"
"""What stands between words that are fed to a trainer: no character, and words that hold it are left out."""
_CHUNK_CHARACTERS = 1 << 22
_FED_CHARACTERS = 1 << 16
_MOST = (1 << 31) - 1
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n"})


class WordCounts:
    """See the module. `backend` says what words are; `folder` is where tables go that are too large."""

    def __init__(self, backend: Backend, *, max_words: int, folder: Path | None = None) -> None:
        self._backend = backend
        self._max_words = max_words
        self._folder = folder
        self._table: Counter[str] = Counter()
        self._runs: list[Path] = []
        self.occurrences = 0
        self.left_out = 0
        """Occurrences of words that `most` did not give."""

    @property
    def spills(self) -> int:
        """How many tables went to disk."""
        return len(self._runs)

    def add(self, texts: Iterable[str]) -> None:
        """Count the words of texts, each a whole number of words."""
        chunk: list[str] = []
        size = 0
        for text in texts:
            chunk.append(text)
            size += len(text)
            if size >= _CHUNK_CHARACTERS:
                self._count(chunk)
                chunk, size = [], 0
        self._count(chunk)

    def most(self) -> list[tuple[str, int]]:
        """(word, count) in the words' order: all, or where they are more than may be held the most frequent."""
        if not self._runs:
            return sorted(self._table.items())
        if self._table:
            self._spill()
        histogram: Counter[int] = Counter(count for _, count in self._merged())
        least, room = 1, self._max_words
        for count, words in sorted(histogram.items(), reverse=True):
            if words > room:  # words as frequent as one another stay or go together
                least = count + 1
                break
            room -= words
        self.left_out = sum(count * words for count, words in histogram.items() if count < least)
        return [(word, count) for word, count in self._merged() if count >= least]

    def _count(self, chunk: list[str]) -> None:
        if not chunk:
            return
        from tokenizers import trainers

        trainer = trainers.WordLevelTrainer(vocab_size=1, min_frequency=0, show_progress=False, special_tokens=[])
        self._backend.train_from_iterator(chunk, trainer)
        state = json.loads(
            cast(bytes, trainer.__getstate__())
        )  # the library's own JSON: the only door to what it counted
        found: dict[str, int] = state["WordLevelTrainer"]["words"]
        self._table.update({word: count for word, count in found.items() if SEPARATOR not in word})
        self.occurrences += sum(found.values())
        if len(self._table) > self._max_words and self._folder is not None:
            self._spill()

    def _spill(self) -> None:
        assert self._folder is not None
        path = self._folder / f"words-{len(self._runs):05d}"
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{word.translate(_ESCAPES)}\t{count}\n" for word, count in sorted(self._table.items()))
        self._runs.append(path)
        self._table = Counter()

    def _merged(self) -> Iterator[tuple[str, int]]:
        """The words of all runs in their order, each once."""
        with ExitStack() as stack:
            runs = [_read(stack.enter_context(path.open(encoding="utf-8", newline="\n"))) for path in self._runs]
            for word, same in groupby(heapq.merge(*runs, key=itemgetter(0)), key=itemgetter(0)):
                yield word, sum(count for _, count in same)


def _read(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    for line in lines:
        word, count = line.rstrip("\n").rsplit("\t", 1)
        yield (word if "\\" not in word else _unescaped(word)), int(count)


def _unescaped(word: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in word.split("\\\\"))


def counter_of(backend: Backend) -> Backend:
    """A tokenizer that only counts: the normalizer and pre-tokenizer of another."""
    from tokenizers import Tokenizer, models

    counter = Tokenizer(models.WordLevel())
    if backend.normalizer is not None:
        counter.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        counter.pre_tokenizer = backend.pre_tokenizer
    return counter


def halvings(words: Iterable[tuple[str, int]]) -> int:
    """How often counts must be halved for a trainer's sums of any two neighbouring characters to fit 32 bits."""
    pairs: Counter[str] = Counter()
    different = 0
    for word, count in words:
        different += 1
        for start in range(len(word) - 1):
            pairs[word[start : start + 2]] += count
    largest, times = max(pairs.values(), default=0), 0
    while (largest >> times) + different > _MOST and largest >> times:  # each word is rounded upwards
        times += 1
    return times


def fed(words: Iterable[tuple[str, int]], *, halved: int = 0) -> Iterator[str]:
    """Texts for a trainer whose pre-tokenizer splits at SEPARATOR: each word as often as it occurs."""
    parts: list[str] = []
    size = 0
    for word, count in words:
        left = -(-count >> halved) if halved else count  # halved upwards: no word is lost
        piece = word + SEPARATOR
        while left > 0:
            times = min(left, max(1, (_FED_CHARACTERS - size) // len(piece)))
            parts.append(piece * times)
            size += times * len(piece)
            left -= times
            if size >= _FED_CHARACTERS - len(piece):
                yield "".join(parts)
                parts, size = [], 0
    if parts:
        yield "".join(parts)
