"""MeasuredDocument: one document as its rules see it, each view of it made once.

Rules on lines take lines away as they go; rules after them see what is left. This module does not know rules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.repetition import WordRuns
from bloomery.corpus.sentences import Chunks, count_sentences
from bloomery.corpus.words import Vocabulary

_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_BETWEEN_PARAGRAPHS = re.compile(r"\n{2,}")
_BETWEEN_LINES = re.compile(r"\n+")


class Text:
    """A text in words and lines."""

    def __init__(
        self, text: str, vocabulary: Vocabulary, numbers: Callable[[], NDArray[np.int64]] | None = None
    ) -> None:
        self.text, self.vocabulary, self._numbers = text, vocabulary, numbers

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """(words,) the vocabulary's numbers of the words."""
        if self._numbers is not None:
            return self._numbers()
        return np.array(self.vocabulary.numbers_of(self.text), np.int64)

    @cached_property
    def lines(self) -> list[str]:
        r"""What stands between "\n"."""
        return self.text.split("\n")

    @cached_property
    def filled_lines(self) -> list[str]:
        """Lines that are not blank."""
        return [line for line in self.lines if line.strip()]

    @cached_property
    def any_lines(self) -> list[str]:
        """Lines between any of Unicode's line ends."""
        return self.text.splitlines()

    @cached_property
    def runs_of_lines(self) -> list[str]:
        """What stands between runs of line ends."""
        return _BETWEEN_LINES.split(self.text)

    @cached_property
    def paragraphs(self) -> list[str]:
        """What stands between blank lines."""
        return _BETWEEN_PARAGRAPHS.split(self.text.strip())

    @cached_property
    def word_runs(self) -> WordRuns:
        return WordRuns(self.numbers, self.vocabulary)

    def column(self, name: str) -> NDArray[Any]:
        """What the vocabulary knows of each word of the text."""
        return self.vocabulary.column(name)[self.numbers]


class Lines:
    """The lines of a text, stripped and without Wikipedia's citation marks, and numbers about each of them."""

    def __init__(self, text: str, vocabulary: Vocabulary, sentence_chunks: Chunks | None = None) -> None:
        self._sentence_chunks = Chunks() if sentence_chunks is None else sentence_chunks
        self.raw = [line.strip() for line in text.splitlines()]
        self.lines = [_CITATION.sub("", line) if "[" in line else line for line in self.raw]
        self.bad_words: re.Pattern[str] | None = None
        self._vocabulary = vocabulary
        self.alive: NDArray[np.bool_] = np.ones(len(self.lines), bool)

    @cached_property
    def lower(self) -> list[str]:
        """The lines in lower case."""
        return [line.lower() for line in self.lines]

    @cached_property
    def _all_lower(self) -> str:
        return "\n".join(self.lines).lower()

    def holding(self, *phrases: str) -> NDArray[np.int64]:
        """(lines,) 1 for a line that holds one of the phrases, which are in lower case, else 0."""
        found = np.zeros(len(self.lines), np.int64)
        for phrase in phrases:
            if phrase in self._all_lower:
                found |= np.array([phrase in line for line in self.lower], np.int64)
        return found

    @cached_property
    def raw_words(self) -> list[list[str]]:
        """Of each line what stands between white space, citation marks included."""
        return [line.split() for line in self.raw]

    @cached_property
    def chunks(self) -> list[list[str]]:
        """Of each line what stands between white space, without citation marks."""
        return [
            words if line is raw else line.split()
            for line, raw, words in zip(self.lines, self.raw, self.raw_words, strict=True)
        ]

    @cached_property
    def words(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The vocabulary's numbers of the words of all lines, and of each line how many it has."""
        groups = self._vocabulary.groups_of(list(chain.from_iterable(self.chunks)))
        ends = np.cumsum([0, *map(len, groups)])  # words before each chunk
        chunks = np.cumsum([0, *map(len, self.chunks)])  # chunks before each line
        return np.array(list(chain.from_iterable(groups)), np.int64), np.diff(ends[chunks])

    @cached_property
    def sentences(self) -> NDArray[np.int64]:
        """(lines,) how many sentences each line has."""
        return count_sentences(self.chunks, self._sentence_chunks)

    def text(self) -> str:
        """What is left, as C4 writes it."""
        return "\n".join(line for line, alive in zip(self.lines, self.alive.tolist(), strict=True) if alive).strip()

    def left_numbers(self) -> Callable[[], NDArray[np.int64]]:
        """The words of `text()` as it is now, when they are asked for."""
        alive = self.alive.copy()

        def numbers() -> NDArray[np.int64]:
            words, counts = self.words
            return words[np.repeat(alive, counts)]

        return numbers


class MeasuredDocument:
    """A document while its rules are applied: `now` is its text after the rules on lines so far."""

    def __init__(
        self,
        text: str,
        vocabulary: Vocabulary,
        metadata: Mapping[str, Any] | None = None,
        sentence_chunks: Chunks | None = None,
    ) -> None:
        self.metadata: Mapping[str, Any] = metadata or {}
        self.vocabulary, self._sentence_chunks = vocabulary, sentence_chunks
        self.original = self.now = Text(text, vocabulary)
        self.given: dict[str, float] = {}
        self.turn = 0  # how many texts `now` has been
        self._moved = False

    @cached_property
    def lines(self) -> Lines:
        return Lines(self.original.text, self.vocabulary, self._sentence_chunks)

    def take_lines(self, dropped: NDArray[np.bool_]) -> None:
        """These lines are gone, for every rule that comes after."""
        self.lines.alive &= ~dropped
        self._moved = True

    def settle(self) -> None:
        """Before a rule on the text: `now` becomes what the lines that are left say."""
        if self._moved:
            self.now = Text(self.lines.text(), self.vocabulary, self.lines.left_numbers())
            self._moved = False
            self.turn += 1
