"""An embedder whose vectors are counts of hashed words, and documents with something to find."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pytest

from bloomery.corpus.document import Document
from bloomery.retrieve.embedding.embedder import unit


class HashedWords:
    """Deterministic, and alike for texts that share words. Counts what it was asked for."""

    def __init__(self, dimension: int = 32) -> None:
        self.dimension, self.asked = dimension, 0

    @property
    def name(self) -> str:
        return f"hashed-words-{self.dimension}"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += len(texts)
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for place, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                digest = hashlib.sha256(word.encode()).digest()
                vectors[place, digest[0] % self.dimension] += 1 if digest[1] % 2 else -1
        return unit(vectors)

    def close(self) -> None:
        return None


@pytest.fixture
def embedder() -> HashedWords:
    return HashedWords()


@pytest.fixture
def documents() -> list[Document]:
    texts = {
        "a.txt": "The bloomery smelts iron ore with charcoal.",
        "b.txt": "Charcoal burners stack wood in the forest. Wood becomes charcoal slowly.",
        "c.txt": "A smith forges the bloom into bars of wrought iron.",
        "d.txt": "Rain falls on the sea.",
    }
    return [Document.of(text, name, {"kind": name[0], "even": name[0] in "bd"}) for name, text in texts.items()]
