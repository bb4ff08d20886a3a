"""Whether texts mean something else than they did: the energy distance of their mean embeddings, with its chance.

A text stands for the mean of the served model's own input embeddings of its tokens, brought to at most 64 dimensions by
a fixed random projection, which keeps distances nearly (Johnson and Lindenstrauss 1984). Two windows are compared by
the energy distance (Szekely and Rizzo 2013), 2 E|X-Y| - E|X-X'| - E|Y-Y'|, zero only where the distributions are the
same; how often chance gives as much is found by permuting who belongs to which window, which is exact whatever the
distribution. This module does not know requests or metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from bloomery.engine import LanguageModel

MAX_DIMENSIONS = 64
MAX_VECTORS = 200
"""Of a window that are compared, evenly spread over it."""
PERMUTATIONS = 1_999
_MAX_TOKENS = 2_000


def mean_embedding(model: LanguageModel, token_ids: Sequence[int]) -> np.ndarray | None:
    """float32 (D,), D at most 64, of the first 2,000 tokens; None for no tokens, and where they are not all the
    model's (pictures stand in for some)."""
    ids = list(token_ids[:_MAX_TOKENS])
    if not ids or max(ids) >= model.config.vocab_size:
        return None
    with torch.inference_mode():
        rows = model.decoder.model.embed_tokens(torch.tensor(ids, device=model.device))
        mean = rows.float().mean(0).cpu().numpy()
    if len(mean) <= MAX_DIMENSIONS:
        return mean
    return (mean @ _projection(len(mean))).astype(np.float32)


@lru_cache(maxsize=16)
def _projection(size: int) -> np.ndarray:
    """(size, 64), the same in every process."""
    return np.random.default_rng(0).normal(size=(size, MAX_DIMENSIONS)) / np.sqrt(MAX_DIMENSIONS)


def energy_test(first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, seed: int = 0) -> tuple[float, float]:
    """(coefficient, p): the energy distance over 2 E|X-Y|, from 0 (the same) to 1, and how often a random division of
    the same vectors (D,) into two such windows has at least as large a distance."""
    x, y = np.asarray(_spread(first), dtype=np.float64), np.asarray(_spread(second), dtype=np.float64)
    both = np.concatenate([x, y])
    squares = (both**2).sum(1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * both @ both.T, 0.0))
    np.fill_diagonal(apart, 0.0)  # rounding leaves a little
    labels = np.zeros((PERMUTATIONS + 1, len(both)))
    labels[:, : len(x)] = 1.0
    labels[1:] = np.random.default_rng(seed).permuted(labels[1:], axis=1)
    distance, between = _energy(apart, labels, len(x), len(y))
    # A hair below: sums of the same numbers in another order are the same distance.
    p = float((distance[1:] >= distance[0] - 1e-12 * max(1.0, between[0])).sum() + 1) / (PERMUTATIONS + 1)
    return (float(distance[0] / (2 * between[0])) if between[0] > 0 else 0.0), p


def _energy(apart: np.ndarray, labels: np.ndarray, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """(distance, E|X-Y|) of each row of `labels` (B, N), which is 1 for the first window; `apart` (N, N)."""
    to_first = labels @ apart
    within = (to_first * labels).sum(1)
    between = to_first.sum(1) - within
    others = apart.sum() - within - 2 * between
    between = between / (n * m)
    return 2 * between - within / n**2 - others / m**2, between


def _spread(vectors: Sequence[np.ndarray]) -> list[np.ndarray]:
    if len(vectors) <= MAX_VECTORS:
        return list(vectors)
    return [vectors[place] for place in np.linspace(0, len(vectors) - 1, MAX_VECTORS).astype(int)]
