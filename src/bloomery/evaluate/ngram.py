"""An interpolated Witten-Bell n-gram model over bytes: the classic that a small language model must face.

Witten and Bell, "The zero-frequency problem" (1991), in the interpolated form of Chen and Goodman (1998):
P(w | h) = (c(hw) + T(h) P(w | h')) / (c(h) + T(h)), with T(h) the number of distinct symbols seen after h and h'
the context one symbol shorter; below the unigram lies the uniform distribution. Counting is sorting, so it is
exact and needs about 16 bytes of memory for each training byte and order at a time.

Documents are joined by an end symbol that is predicted like any other, so a document's length is paid for. What
this module does not know: tokens, and any smoothing but this one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

END = 256
_ALPHABET = 257


def symbols(texts: Iterable[bytes]) -> np.ndarray:
    """The texts as one sequence int64 (S,): END, then each text followed by END."""
    parts = [np.array([END], dtype=np.int64)]
    for text in texts:
        parts.append(np.frombuffer(text, dtype=np.uint8).astype(np.int64))
        parts.append(np.array([END], dtype=np.int64))
    return np.concatenate(parts)


class WittenBell:
    """Counts of every n-gram up to `order` symbols (order 5: up to four symbols of context)."""

    def __init__(self, training: np.ndarray, *, order: int = 5) -> None:
        if not 1 <= order <= 7:
            raise ValueError(f"order should be from 1 to 7, not {order}: longer codes do not fit 64 bits")
        self.order = order
        self._grams = [np.unique(_codes(training, n), return_counts=True) for n in range(1, order + 1)]
        # For each n-gram length, its contexts with how often and with how many different symbols they go on.
        self._contexts = []
        for codes, counts in self._grams:
            contexts, first, types = np.unique(codes // _ALPHABET, return_index=True, return_counts=True)
            self._contexts.append((contexts, np.add.reduceat(counts, first), types))

    def probabilities(self, sequence: np.ndarray) -> np.ndarray:
        """P of each symbol but the first given those before it: float64 (S - 1,)."""
        positions = np.arange(1, len(sequence))
        result = np.full(len(positions), 1.0 / _ALPHABET)
        for n in range(1, self.order + 1):
            # Positions with fewer than n - 1 symbols before them keep the shorter context's estimate.
            known = positions >= n - 1
            codes = _codes(sequence, n)[positions[known] - (n - 1)]
            hits = _look_up(*self._grams[n - 1], codes)
            contexts, totals, types = self._contexts[n - 1]
            seen = _look_up(contexts, totals, codes // _ALPHABET)
            kinds = _look_up(contexts, types, codes // _ALPHABET)
            lower = result[known]
            weighed = (hits + kinds * lower) / np.maximum(1, seen + kinds)
            result[known] = np.where(seen > 0, weighed, lower)
        return result

    def bits_per_byte(self, texts: Iterable[bytes]) -> float:
        """Bits to code the texts and their ends, over their bytes."""
        sequence = symbols(texts)
        num_bytes = int((sequence != END).sum())
        return float(-np.log2(self.probabilities(sequence)).sum() / max(1, num_bytes))


def _codes(sequence: np.ndarray, n: int) -> np.ndarray:
    """Every window of n symbols as one integer, the last symbol in the lowest digit: int64 (S - n + 1,)."""
    codes = np.zeros(max(0, len(sequence) - n + 1), dtype=np.int64)
    for offset in range(n):
        codes = codes * _ALPHABET + sequence[offset : offset + len(codes)]
    return codes


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
