"""Embedder: whatever gives texts vectors of length one. This module does not know models, nor what texts are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Embedder(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """The same name gives the same vectors: it stands for model and weights."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, E) float32, in the texts' order, each of length one."""
        ...

    def close(self) -> None: ...


def unit(vectors: np.ndarray) -> np.ndarray:
    """(N, E) scaled to length one, float32; a vector of zeros stays."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, np.float32(1e-12))
