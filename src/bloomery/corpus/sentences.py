"""Sentences of lines, counted as spaCy's sentencizer does, without cutting the words that cannot end one.

A sentence ends at a word that is a mark for it, and the next begins at the first word after it that is not punctuation.
Of each chunk, which is what stands between white space, it is known what it does to such a walk over all words; lines
are then counted in arrays. This module does not know where one sentence ends and the next begins.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.words import SENTENCE_ENDS, split_chunk

_END = re.compile(f"[{re.escape(''.join(sorted(SENTENCE_ENDS)))}]")
_KNOWN_CHUNKS = 500_000
_KNOWN_CHARACTERS = 64
"""Longer chunks, such as whole lines of a script without spaces, hardly come again and are looked at each time: what is
remembered needs about 70 MB for English, and 200 MB at most."""
_ENDS, _IS_WORD, _JOINS, _BEGUN = 1, 2, 4, 3
"""Of a chunk, in bits: its last end has no word behind it; it has a word other than punctuation; such a word stands
before any of its ends, and begins a sentence if an end came before the chunk; above that, how many begin within it."""


class Chunks(dict[str, int]):
    """What each chunk does; of a short one it is found out once. `make_room` forgets all if it has become too much."""

    def __missing__(self, chunk: str) -> int:
        words = split_chunk(chunk) if _END.search(chunk) else (chunk,)
        begun, joins, is_word, ended = 0, False, False, False
        for word in words:
            if word in SENTENCE_ENDS:
                ended = True
            elif not _is_punctuation(word):
                begun += ended
                joins = joins or not (is_word or ended)
                is_word, ended = True, False
        code = begun << _BEGUN | joins * _JOINS | is_word * _IS_WORD | ended * _ENDS
        if len(chunk) <= _KNOWN_CHARACTERS:
            self[chunk] = code
        return code

    def make_room(self) -> None:
        if len(self) > _KNOWN_CHUNKS:
            self.clear()


def count_sentences(lines: Sequence[Sequence[str]], known: Chunks) -> NDArray[np.int64]:
    """(lines,) sentences of each line, whose chunks are given: 0 of a blank one."""
    counts = np.fromiter(map(len, lines), np.int64, len(lines))
    codes = np.array(list(map(known.__getitem__, chain.from_iterable(lines))), np.int64)
    telling = np.flatnonzero(codes & (_IS_WORD | _ENDS))
    codes, line_of = codes[telling], np.repeat(np.arange(len(lines)), counts)[telling]
    begun = codes >> _BEGUN
    before = (codes[:-1] & _ENDS != 0) & (line_of[1:] == line_of[:-1])
    begun[1:] += before & (codes[1:] & _JOINS != 0)
    return (counts > 0) + np.bincount(line_of, begun, minlength=len(lines)).astype(np.int64)


def _is_punctuation(word: str) -> bool:
    return not word.isalnum() and all(unicodedata.category(c)[0] == "P" for c in word)
