"""Sentences of a text, as ranges: by the words that end one (see `corpus.words`), which know abbreviations.

A sentence ends behind an end mark and the closing marks and quotes that follow it, and at a blank line; in scripts
without spaces an end mark ends it within a run of characters. This module does not know chunks.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from bloomery.corpus.words import SENTENCE_ENDS, split_chunk
from bloomery.retrieve.cutting.block import Range, trimmed

_RUN = re.compile(r"\S+")
_WIDE_END = re.compile("[。！？｡।؟]+[”’」』）〉》]*")
_BLANK_LINE = re.compile(r"\n\s*\n")


def sentences(text: str, start: int = 0, end: int | None = None) -> list[Range]:
    """The sentences within a range, in order; white space between them is in none."""
    end = len(text) if end is None else end
    found: list[Range] = []
    begun, last = start, start
    for run in _RUN.finditer(text, start, end):
        if begun < run.start() and _BLANK_LINE.search(text, last, run.start()):
            found.append((begun, last))
            begun = run.start()
        inside = run.start()
        for wide in _WIDE_END.finditer(text, run.start(), run.end()):
            found.append((begun, wide.end()))
            begun = inside = wide.end()
        last = run.end()
        if inside < run.end() and _ends(text[inside : run.end()]):
            found.append((begun, run.end()))
            begun = run.end()
    found.append((begun, end))
    spans = [trimmed(text, *one) for one in found]
    return [one for one in spans if one[0] < one[1]]


@lru_cache(1 << 14)
def _ends(run: str) -> bool:
    """Whether a run of characters without white space ends a sentence: its last mark is an end, or only closing marks
    stand behind one."""
    if run.isalnum():
        return False
    for word in reversed(split_chunk(run)):
        if word in SENTENCE_ENDS:
            return True
        if not all(unicodedata.category(c) in ("Pe", "Pf", "Po") and c not in ",;:" for c in word):
            return False
    return False
