"""NearReport: what `report.json` says of near duplicates: sizes, similarities, what the bands find and miss, examples.

This module does not know how they are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.document import Document
from bloomery.corpus.minhash import s_curve, threshold

_BINS = 20
_EXAMPLES = 5
_EXCERPT_CHARACTERS = 240
_BLOCK = 1 << 20


class NearReport:
    """Counts while documents go by; `report()` when they have."""

    def __init__(self, config: DedupConfig) -> None:
        self._config = config
        self.documents = 0
        self.clusters = 0
        self.dropped = 0
        self._sizes: Counter[int] = Counter()
        self._to_kept = np.zeros(_BINS + 1, np.int64)
        self._pairs = np.zeros(_BINS + 1, np.int64)
        self._largest: dict[int, dict[str, Any]] = {}
        self._least: list[tuple[float, int, dict[str, Any]]] = []
        self._watched: set[int] = set()

    def watch(self, sizes: NDArray[np.unsignedinteger]) -> None:
        """Be told the clusters' sizes, at their first documents, so that the largest ones' texts can be kept."""
        best: list[tuple[int, int]] = []
        for start in range(0, len(sizes), _BLOCK):
            block = sizes[start : start + _BLOCK]
            least = max(2, -best[-1][0] if len(best) == _EXAMPLES else 2)
            for place in np.flatnonzero(block >= least).tolist():
                best = sorted([*best, (-int(block[place]), start + place)])[:_EXAMPLES]
        self._watched = {place for _, place in best}

    def add_pairs(self, blocks: Iterable[NDArray[np.float64]]) -> None:
        """The estimated similarities of pairs that met."""
        for similarities in blocks:
            self._pairs += _histogram(similarities)

    def add_kept(self, number: int, cluster: int, size: int, document: Document) -> None:
        self.clusters += 1
        self._sizes[size] += 1
        if number in self._watched:
            said = {"cluster": cluster, "documents": size, "kept": document.id, "source": document.source}
            self._largest[number] = {**said, "text": _excerpt(document), "least_similar": None}

    def add_dropped(self, first: int, document: Document, similarity: float) -> None:
        self.dropped += 1
        self._to_kept += _histogram(np.array([similarity]))
        if first in self._largest:
            example = self._largest[first]
            if example["least_similar"] is None or similarity < example["least_similar"]["similarity"]:
                said = {"id": document.id, "source": document.source, "similarity": similarity}
                example["least_similar"] = {**said, "text": _excerpt(document)}

    def report(self) -> dict[str, Any]:
        config = self._config
        shape = {"bands": config.near_bands, "rows": config.near_rows}
        return {
            "documents": self.documents,
            "clusters": self.clusters,
            "dropped": self.dropped,
            "threshold": round(threshold(**shape), 4),
            "found_at": {f"{s / 100:.2f}": round(s_curve(s / 100, **shape), 4) for s in range(50, 100, 5)},
            "cluster_sizes": {str(size): count for size, count in sorted(self._sizes.items())[:_BINS]},
            "clusters_larger": sum(count for _, count in sorted(self._sizes.items())[_BINS:]),
            "largest": max(self._sizes, default=0),
            "pairs_by_similarity": _named(self._pairs),
            "dropped_by_similarity_to_kept": _named(self._to_kept),
            "would_drop_at_least": self._would_drop(),
            "examples": [self._largest[n] for n in sorted(self._largest, key=lambda n: (-self._size(n), n))],
        }

    def _size(self, number: int) -> int:
        return self._largest[number]["documents"]

    def _would_drop(self) -> dict[str, int]:
        """Documents dropped now whose similarity to the one kept is at least this."""
        left = np.cumsum(self._to_kept[::-1])[::-1]
        return {f"{place / _BINS:.2f}": int(left[place]) for place in range(_BINS // 2, _BINS + 1)}


def _histogram(similarities: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.bincount((similarities * _BINS + 1e-9).astype(np.int64), minlength=_BINS + 1)


def _named(counts: NDArray[np.int64]) -> dict[str, int]:
    """Counts by the lower end of their bin, empty ones left out."""
    return {f"{place / _BINS:.2f}": int(count) for place, count in enumerate(counts) if count}


def _excerpt(document: Document) -> str:
    return document.text[:_EXCERPT_CHARACTERS]
