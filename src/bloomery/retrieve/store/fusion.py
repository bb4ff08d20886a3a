"""Fusion: rankings of several kinds become one.

Reciprocal ranks: Cormack, Clarke and Buettcher, SIGIR 2009: a row's score is the sum over rankings of
weight / (60 + its place). Scores: each ranking's scores from its lowest to its highest as 0 to 1, then their weighted
sum (Bruch et al., arXiv 2210.11934, who find it above reciprocal ranks where its weights are tuned). This module does
not know what is ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

How = Literal["ranks", "scores"]
RANK_CONSTANT = 60
Ranking = Sequence[tuple[int, float]]
"""(row, score), best first."""


def fuse(
    rankings: Mapping[str, Ranking], weights: Mapping[str, float], how: How = "ranks", constant: int = RANK_CONSTANT
) -> list[tuple[int, float]]:
    """(row, score) of all rows in any ranking, best first; of equal scores the lower row."""
    scores: dict[int, float] = {}
    for name, ranking in rankings.items():
        weight = weights.get(name, 1.0)
        for row, value in _by_rank(ranking, constant) if how == "ranks" else _by_score(ranking):
            scores[row] = scores.get(row, 0.0) + weight * value
    return sorted(scores.items(), key=lambda one: (-one[1], one[0]))


def _by_rank(ranking: Ranking, constant: int) -> list[tuple[int, float]]:
    return [(row, 1.0 / (constant + place)) for place, (row, _) in enumerate(ranking, start=1)]


def _by_score(ranking: Ranking) -> list[tuple[int, float]]:
    """What a ranking does not hold has 0, as its last one has: it is no better."""
    if not ranking:
        return []
    low, high = min(score for _, score in ranking), max(score for _, score in ranking)
    if high <= low:
        return [(row, 1.0) for row, _ in ranking]
    return [(row, (score - low) / (high - low)) for row, score in ranking]
