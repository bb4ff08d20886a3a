"""MinHash: signatures of texts, and the keys by which similar ones meet. Pure functions of a batch of texts.

    signer = Signer(words=5, bands=14, rows=8)
    signatures, shingles = signer.signatures(texts)    # (N, bands * rows) uint32, (N,) how many shingles each has
    keys = signer.band_keys(signatures)                # (N, bands) uint64: two texts that share one are candidates

A text is the set of its runs of `words` words; two texts whose sets have the Jaccard similarity s share the least value
of a random permutation with probability s (Broder 1997), and at least one of `bands` keys of `rows` values each with
probability 1 - (1 - s**rows)**bands (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4).

The permutations are the classical ones, each independent of the others: x -> (a * x + b) mod 2**64 over mixed 64-bit
hashes of the runs, the highest 32 bits kept. Libraries that draw all values of a sketch in one pass (rensa) are not
binomial, so that what they find does not lie on that curve, and their signatures change with their version, on which
what a corpus holds must not depend; datasketch is on the curve, and several times slower
(benchmarks/bench_minhash.py prints both). This module does not know files, documents or clusters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.unspaced import UNSPACED

Words = NDArray[np.uint64]

# What stands between words. Combining marks stand in them: \w would cut Hindi at every vowel sign.
_BETWEEN = (
    r"\s\x00-\x2f\x3a-\x40\x5b-\x60\x7b-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\u0964\u0965\u2000-\u206f\u2190-\u2bff"
    r"\u3000-\u303f\ufe10-\ufe6f\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_WORD = re.compile(rf"[{UNSPACED}]|[^{_BETWEEN}{UNSPACED}]+")
_PADDING = ""  # no word: a text of fewer words than a run has is one run, filled up
_KNOWN_WORDS = 1 << 18
_BLOCK_SHINGLES = 1 << 14  # what fits a processor's second cache
_EMPTY = np.uint32(0xFFFFFFFF)


def words_of(text: str) -> list[str]:
    """The words of a text that near duplicates are compared by: case-folded, without punctuation."""
    return _WORD.findall(text.casefold())


def s_curve(similarity: float, *, bands: int, rows: int) -> float:
    """The probability that two texts of this Jaccard similarity share a band."""
    return 1.0 - (1.0 - similarity**rows) ** bands


def threshold(*, bands: int, rows: int) -> float:
    """Where the curve is steepest, nearly: (1 / bands) ** (1 / rows)."""
    return (1.0 / bands) ** (1.0 / rows)


def mix(values: Words) -> Words:
    """Every bit of a value spread over all of them, one to one (SplitMix64's end; Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class WordHasher:
    """64-bit hashes of words, those met before remembered. The same on every machine."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def hashes(self, words: Sequence[str]) -> Words:
        """(words,) uint64."""
        known = self._known
        if len(known) > _KNOWN_WORDS:
            known.clear()
        for word in set(words).difference(known):
            known[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return np.fromiter(map(known.__getitem__, words), np.uint64, len(words))


class Signer:
    """Signatures for one choice of `words`, `bands` and `rows`; another `seed` gives other permutations."""

    def __init__(self, *, words: int = 5, bands: int = 14, rows: int = 8, seed: int = 0) -> None:
        self.words, self.bands, self.rows = words, bands, rows
        rng = np.random.Generator(np.random.PCG64(seed))
        count = bands * rows
        self._factors = rng.integers(0, 1 << 63, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._terms = rng.integers(0, (1 << 64) - 1, size=count, dtype=np.uint64, endpoint=True)
        self._places = rng.integers(0, 1 << 63, size=words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._hasher = WordHasher()

    def shingles(self, texts: Sequence[str]) -> tuple[Words, NDArray[np.int64]]:
        """(all runs of words of all texts, one text after another; (N,) how many each has). Runs may repeat."""
        size = self.words
        words: list[str] = []
        counts = np.zeros(len(texts), np.int64)
        for place, text in enumerate(texts):
            own = words_of(text)
            if 0 < len(own) < size:
                own += [_PADDING] * (size - len(own))
            words += own
            counts[place] = len(own)
        each = self._hasher.hashes(words)
        runs = np.zeros(max(0, len(each) - size + 1), np.uint64)
        for place, factor in enumerate(self._places):
            runs += each[place : place + len(runs)] * factor
        ends = np.repeat(np.cumsum(counts), counts)[: len(runs)]  # of the text in which each run begins
        within = np.arange(len(runs)) + size <= ends
        return mix(runs[within]), np.maximum(0, counts - (size - 1))

    def signatures(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """((N, bands * rows) uint32, (N,) shingles). A text without words has no shingles, and belongs to no one."""
        return self.signatures_of_shingles(*self.shingles(texts))

    def signatures_of_shingles(
        self, shingles: Words, counts: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The same from sets given as `shingles` gives them."""
        found = np.full((len(counts), len(self._factors)), _EMPTY, np.uint32)
        some = np.flatnonzero(counts)
        ends = np.cumsum(counts[some])
        begin = 0
        while begin < len(some):
            start = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, start + _BLOCK_SHINGLES, "right")))
            block = shingles[start : ends[end - 1]]
            borders = ends[begin:end] - counts[some[begin:end]] - start
            found[some[begin:end]] = self._least(block, borders)
            begin = end
        return found, counts

    def _least(self, block: Words, borders: NDArray[np.int64]) -> NDArray[np.uint32]:
        values = np.empty_like(block)
        least = np.empty((len(self._factors), len(borders)), np.uint64)
        for place, (factor, term) in enumerate(zip(self._factors, self._terms, strict=True)):
            np.multiply(block, factor, out=values)
            np.add(values, term, out=values)
            np.minimum.reduceat(values, borders, out=least[place])
        return (least >> np.uint64(32)).astype(np.uint32).T

    def band_keys(self, signatures: NDArray[np.uint32]) -> Words:
        """(N, bands) uint64: a hash of each band's values and its number."""
        values = signatures.reshape(len(signatures), self.bands, self.rows)
        keys = np.broadcast_to(np.arange(1, self.bands + 1, dtype=np.uint64), values.shape[:2])
        for row in range(self.rows):
            keys = mix(keys * np.uint64(0x9E3779B97F4A7C15) + values[:, :, row])
        return keys


def agreement(one: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.float64]:
    """(N,) the share of values that two (N, K) signatures have in common: their Jaccard similarity, estimated.

    The standard error is sqrt(s * (1 - s) / K): .04 at .8 for 112 values.
    """
    return (one == other).mean(axis=1)
