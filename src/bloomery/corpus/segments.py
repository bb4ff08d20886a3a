r"""Segments: lines and paragraphs of a text, and which of them the corpus had before.

A line is compared in lower case without white space at either end (as C4's code does), a paragraph, which stands
between blank lines, in lower case with any white space as one space. This module does not know documents.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from bloomery.corpus.dedup import FirstSeen
from bloomery.corpus.removed_texts import Cut

_LINE = re.compile(r"[^\n]*\n|[^\n]+\Z")


def lines_of(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, what it is compared by) of every line, its line end included."""
    for found in _LINE.finditer(text):
        yield found.start(), found.end(), found.group().strip().lower()


def paragraphs_of(text: str) -> Iterator[tuple[int, int, str]]:
    """The same of every paragraph, the blank lines after it included."""
    start, lines, filled = 0, [], False
    for begin, _, line in lines_of(text):
        if line and filled and lines and not lines[-1]:
            yield start, begin, " ".join(" ".join(lines).split())
            start, lines = begin, []
        lines.append(line)
        filled = filled or bool(line)
    if filled:
        yield start, len(text), " ".join(" ".join(lines).split())


class RepeatedSegments:
    """Says which segments of a text stand in earlier texts, or earlier in it. Remembers digests on disk."""

    def __init__(self, path: Path, kind: str, *, min_characters: int) -> None:
        """`kind` is "line" or "paragraph"."""
        self._seen = FirstSeen(path)
        self._segments = lines_of if kind == "line" else paragraphs_of
        self._least = min_characters

    def cuts(self, text: str, name: str) -> list[Cut]:
        """The segments to take out of a text that is called `name`: all but the first of each in the corpus."""
        found = []
        for start, end, compared in self._segments(text):
            if len(compared) < self._least:
                continue
            digest = hashlib.blake2b(compared.encode(), digest_size=16).digest()
            if first := self._seen.first(digest, name):
                found.append(Cut(start, end, first))
        return found

    def close(self) -> None:
        self._seen.close()
