"""Repetition: which characters of a text stand in n-grams of words that came before, by rolling hashes.

A word's hash is its polynomial in 64 bits, so that the hash of words written one after another follows from theirs:
all n-grams of a text are hashed in a few array operations, and only those that occur twice are looked at one by one.
Two different n-grams of one text have equal hashes with a chance of about 2**-64. This module does not know rules.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.words import Vocabulary

# Odd multipliers, one a place: a hash of n words that depends on where each begins and ends.
_PLACES = np.random.Generator(np.random.PCG64(17)).integers(0, 1 << 63, size=16, dtype=np.uint64) * np.uint64(
    2
) + np.uint64(1)


def repeated(things: Sequence[str]) -> tuple[int, int]:
    """(how many are copies of an earlier one, the characters of those copies)."""
    copies = len(things) - len(set(things))
    if not copies:
        return 0, 0
    seen: set[str] = set()
    characters = 0
    for thing in things:
        if thing in seen:
            characters += len(thing)
        else:
            seen.add(thing)
    return copies, characters


class WordRuns:
    """The runs of n words of one text, given as numbers of a vocabulary."""

    def __init__(self, numbers: NDArray[np.int64], vocabulary: Vocabulary) -> None:
        self._lengths = vocabulary.column("lengths")[numbers]
        self._hashes = vocabulary.column("hashes")[numbers]
        shifts = vocabulary.column("shifts")[numbers]
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
        self._joined: NDArray[np.uint64] = self._hashes  # of the n words from each place, written together
        self._shifts, self._size = shifts, 1

    def most_frequent_characters(self, size: int) -> int:
        """Characters that the most frequent run of `size` words takes up, spaces within it counted, every occurrence.

        Of runs that are equally frequent the one that comes first counts, though it be the only one; 0 where the text
        is shorter.
        """
        count = len(self._lengths) - size + 1
        if count <= 0:
            return 0
        keys = np.zeros(count, np.uint64)
        for place in range(size):
            keys += self._hashes[place : place + count] * _PLACES[place]
        ordered = np.sort(keys)
        borders = np.flatnonzero(ordered[1:] != ordered[:-1])
        sizes = np.diff(borders, prepend=-1, append=count - 1)
        most = int(sizes.max())
        first = 0
        if most > 1:
            frequent = ordered[np.append(borders, count - 1)[sizes == most]]
            first = int(np.isin(keys, frequent).argmax() if len(frequent) > 1 else (keys == frequent[0]).argmax())
        return (int(self._starts[first + size] - self._starts[first]) + size - 1) * most

    def repeated_characters(self, size: int) -> int:
        """Characters of runs of `size` words whose letters came before, read from left to right: after a repeated run
        reading goes on behind it, and a run that was passed over is not remembered. Sizes are asked for in ascending
        order."""
        count = len(self._lengths) - size + 1
        if count <= 0:
            return 0
        self._extend(size)
        keys = self._joined[:count]
        ordered = np.sort(keys)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if not len(twice):
            return 0
        places = np.flatnonzero(_member(keys, twice))
        characters, free, seen = 0, 0, set()
        starts = self._starts
        for place, key in zip(places.tolist(), keys[places].tolist(), strict=True):
            if place < free:
                continue
            if key in seen:
                characters += int(starts[place + size] - starts[place])
                free = place + size
            else:
                seen.add(key)
        return characters

    def _extend(self, size: int) -> None:
        """Hashes of `size` words from those of fewer: hash(uv) = hash(u) * base**len(v) + hash(v)."""
        assert size >= self._size, "sizes are asked for in ascending order"
        while self._size < size:
            n = len(self._lengths) - self._size
            tail = slice(self._size, self._size + n)
            self._joined = self._joined[:n] * self._shifts[tail] + self._hashes[tail]
            self._size += 1


def _member(keys: NDArray[np.uint64], of: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which keys are in the sorted array."""
    places = np.searchsorted(of, keys)
    places[places == len(of)] = 0
    return of[places] == keys
