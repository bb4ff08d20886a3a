"""Held out: texts of evaluation files that nothing made here may contain.

A text overlaps if it shares a run of `num_words` words with a held-out text, or holds one that is shorter than that (5
words or more) in full, or is one; a character of a script without spaces is half a word. It fails closed: a file that
cannot be read, or of which a line gives no text, is an error before anything is made, and so is one without texts. This
module does not know what is made, nor formats of files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bloomery.core.config import digest
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.decontaminate import Hashes, RunHasher, length_of, words_of
from bloomery.corpus.evaluation_files import evaluation_files, evaluation_texts

_SHORTEST_WORDS = 5
_WHAT = "held-out"


class HeldOut:
    """The words of held-out texts."""

    def __init__(self, num_words: int = 13) -> None:
        if not _SHORTEST_WORDS <= num_words <= 100:
            raise ConfigError(f'"num_words" is {num_words}, but should be from {_SHORTEST_WORDS} to 100')
        self.num_words = num_words
        self.texts = 0
        self._whole: set[str] = set()
        self._hashers: dict[float, RunHasher] = {}
        self._added: dict[float, list[Hashes]] = defaultdict(list)
        self._runs: dict[float, Hashes] = {}

    def add(self, text: str) -> None:
        words = words_of(text)
        if not words:
            return
        self.texts += 1
        self._whole.add(digest(words))
        length = min(length_of(words), self.num_words)
        if length >= _SHORTEST_WORDS:
            self._added[length].append(self._hasher(length).hashes(words))

    def overlap(self, text: str) -> str:
        """The words that a text shares, or ""."""
        words = words_of(text)
        if words and digest(words) in self._whole:
            return " ".join(words[: self.num_words])
        self._seal()
        for length, runs in self._runs.items():
            hashes = self._hasher(length).hashes(words)
            places = np.minimum(np.searchsorted(runs, hashes), len(runs) - 1)
            found = np.flatnonzero(runs[places] == hashes)
            if len(found):
                return self._hasher(length).run(words, int(found[0]))
        return ""

    def _seal(self) -> None:
        """What was added joins the sorted runs."""
        for length, added in self._added.items():
            self._runs[length] = np.unique(np.concatenate([self._runs.get(length, added[0][:0]), *added]))
        self._added.clear()

    def _hasher(self, length: float) -> RunHasher:
        if length not in self._hashers:
            self._hashers[length] = RunHasher(length)
        return self._hashers[length]


def held_out_files(names: Sequence[str | Path]) -> list[Path]:
    """The files that these name (files, folders, globs), in order. ConfigError for a name that names none."""
    return evaluation_files(names, what=_WHAT)


def read_held_out(names: Sequence[str | Path], *, num_words: int = 13) -> HeldOut:
    """The texts of files, folders and globs, read by the rules of `dedup.evaluation`; a format that is not known is
    read as text.

    DataError, naming the file, for whatever cannot be read whole; ConfigError for a name that names no file.
    """
    held = HeldOut(num_words)
    for path in held_out_files(names):
        before = held.texts
        for text in evaluation_texts(path, what=_WHAT, else_text=True):
            held.add(text)
        if held.texts == before:
            raise DataError(f"the {_WHAT} file {path} has no text", hint="leave it out, if that is right")
    return held
