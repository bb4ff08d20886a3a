"""Contamination: which samples of a task stand in the corpus that a model was trained on, and the score without them.

A sample is contaminated if a document shares a run of 13 words with one of its texts (Brown et al. 2020, appendix C),
or holds one of 8 to 12 words whole; shorter texts are everywhere and say nothing. Words are those of decontamination.
This module does not know tasks or models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bloomery.corpus.decontaminate import RunHasher, in_batches
from bloomery.corpus.document import Document, readable
from bloomery.corpus.minhash import words_of

WORDS, LEAST_WORDS = 13, 8


@dataclass(frozen=True)
class Contamination:
    """`shared` has, by sample, the words that it shares with a document, and the document."""

    checked: int
    """Samples with a text that is long enough."""
    documents: int
    shared: dict[int, tuple[str, str]] = field(default_factory=dict)


class Sought:
    """The runs of words of samples, to be looked for in documents."""

    def __init__(self, samples: Sequence[Sequence[str]]) -> None:
        """The texts of each sample."""
        owners: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        self._hashers: dict[int, RunHasher] = {}
        checked: set[int] = set()
        for place, texts in enumerate(samples):
            for text in texts:
                words = words_of(readable(text))
                length = min(WORDS, len(words))
                if length < LEAST_WORDS:
                    continue
                checked.add(place)
                hasher = self._hashers.setdefault(length, RunHasher(length, halves=False))
                for number in hasher.hashes(words).tolist():
                    owners[length][number].add(place)
        self.checked = len(checked)
        self._owners = owners
        self._sorted = {length: np.sort(np.array(list(own), np.uint64)) for length, own in owners.items()}

    def found(self, documents: Iterable[Document], progress: Callable[[int], None] = lambda n: None) -> Contamination:
        """Reads all documents; `progress` hears how many so far."""
        shared: dict[int, tuple[str, str]] = {}
        count = 0
        for batch in in_batches(documents):
            for document in batch:
                self._look(document, shared)
            count += len(batch)
            progress(count)
        return Contamination(self.checked, count, shared)

    def _look(self, document: Document, shared: dict[int, tuple[str, str]]) -> None:
        words = words_of(document.text)
        for length, known in self._sorted.items():
            hasher = self._hashers[length]
            hashes = hasher.hashes(words)
            if not len(hashes):
                continue
            places = np.searchsorted(known, hashes)
            places[places == len(known)] = 0
            for at in np.flatnonzero(known[places] == hashes).tolist():
                for sample in self._owners[length][int(hashes[at])]:
                    if sample not in shared:
                        shared[sample] = hasher.run(words, at), document.id
