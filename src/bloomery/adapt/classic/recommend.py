"""Recommending: what somebody may take next, from who took what, by matrix factorisation and by popularity.

Implicit feedback: nobody says what they dislike. Each pair of user and item is preferred or not, with a confidence that
grows with the count; least squares alternate between users and items (Hu, Koren and Volinsky, 2008,
doi:10.1109/ICDM.2008.22). Shapes: U users, I items, K factors. This module does not know what items are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bloomery.core.errors import ConfigError, DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FactorConfig:
    """Sizes of a factorisation."""

    factors: int = 32
    confidence: float = 10.0
    """What each time that a user took an item adds to the confidence of 1 that all pairs have."""
    penalty: float = 1.0
    """Of squared factors."""
    rounds: int = 10
    """Users and items are solved for this often."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.factors <= 4096 or not 1 <= self.rounds <= 10_000:
            raise ConfigError('"factors" is from 1 to 4,096, "rounds" 1 or more')
        if self.confidence < 0 or self.penalty <= 0:
            raise ConfigError('"confidence" is 0 or more, "penalty" above 0')


@dataclass(frozen=True)
class Factors:
    """A fitted factorisation."""

    users: Floats
    """(U, K)."""
    items: Floats
    """(I, K)."""

    def scores(self, users: ArrayLike) -> Floats:
        """(N, I) of these users: higher is likelier."""
        return self.users[np.asarray(users, dtype=np.int64)] @ self.items.T


def fit_factors(counts: Any, config: FactorConfig | None = None) -> Factors:
    """`counts` (U, I), a SciPy sparse matrix, or what makes one: how often each user took each item. DataError where
    one is negative or none is there."""
    from scipy import sparse

    config = config or FactorConfig()
    rows: Any = sparse.csr_matrix(counts, dtype=np.float64)
    rows.eliminate_zeros()
    if not rows.nnz or not np.isfinite(rows.data).all() or rows.data.min() < 0:
        raise DataError("counts of users and items are positive, and some")
    columns = rows.T.tocsr()
    rng = np.random.default_rng(config.seed)
    users = rng.normal(0, 0.1, (rows.shape[0], config.factors))
    items = rng.normal(0, 0.1, (rows.shape[1], config.factors))
    for _ in range(config.rounds):
        users = _solved(rows, items, config)
        items = _solved(columns, users, config)
    return Factors(users, items)


def _solved(counts: Any, fixed: Floats, config: FactorConfig) -> Floats:
    """The best factors of each row of counts while the other side's are fixed: (Y'Y + Y'(C - 1)Y + penalty) x = Y'Cp,
    where only what was taken has a preference of 1, or a confidence above 1."""
    shared = fixed.T @ fixed + config.penalty * np.eye(fixed.shape[1])
    found = np.zeros((counts.shape[0], fixed.shape[1]))
    for row in range(counts.shape[0]):
        start, end = counts.indptr[row], counts.indptr[row + 1]
        if start == end:
            continue  # nothing taken: zero is the best there is
        taken = fixed[counts.indices[start:end]]
        extra = config.confidence * counts.data[start:end]
        found[row] = np.linalg.solve(shared + taken.T @ (taken * extra[:, None]), taken.T @ (1 + extra))
    return found


def popularity(counts: Any) -> Floats:
    """(I,) how many users took each item: the baseline that every recommender should beat."""
    from scipy import sparse

    rows: Any = sparse.csr_matrix(counts)
    return np.asarray((rows > 0).sum(axis=0), dtype=np.float64).ravel()


def best_items(scores: ArrayLike, k: int, *, without: Sequence[int] | Ints = ()) -> Ints:
    """The k items of the highest scores (I,), best first, of equal ones the first; none of `without`."""
    left = np.array(scores, dtype=np.float64)
    left[np.asarray(without, dtype=np.int64)] = -np.inf
    order = np.argsort(-left, kind="stable")[:k]
    return order[np.isfinite(left[order])]


def recall_at(found: Sequence[int] | Ints, wanted: Sequence[int] | Ints) -> float:
    """The share of what was wanted that is among what was found."""
    if not len(wanted):
        raise DataError("nothing was wanted: there is no recall")
    return float(np.isin(found, wanted).sum() / len(wanted))


def ndcg_at(found: Sequence[int] | Ints, wanted: Sequence[int] | Ints, k: int) -> float:
    """Gain of 1 for each wanted item, divided by log2(place + 1), over the best that k places could have (Järvelin and
    Kekäläinen, 2002)."""
    if not len(wanted):
        raise DataError("nothing was wanted: there is no gain")
    worth = 1 / np.log2(np.arange(2, k + 2))
    hits = np.isin(np.asarray(found)[:k], wanted)
    return float(worth[: len(hits)][hits].sum() / worth[: min(k, len(wanted))].sum())
