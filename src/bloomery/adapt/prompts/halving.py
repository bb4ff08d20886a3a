"""Halving: the best of many by few questions each, then more for those that are left (successive halving, Jamieson and
Talwalkar, 2016, arXiv 1502.07943).

Every rung asks the same first questions of all that are left, so that they are compared item by item; the first
candidate is asked to the end whatever it is worth, to be compared with. This module does not know what a candidate is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """A candidate at a rung."""

    candidate: int
    items: int
    score: float
    """Mean over the items."""
    tokens: float
    """Mean of an answer."""
    stays: bool


def rungs(total: int, first: int) -> list[int]:
    """Items of each rung: doubled until all."""
    sizes = [min(max(1, first), total)]
    while sizes[-1] < total:
        sizes.append(min(2 * sizes[-1], total))
    return sizes


def halve(
    candidates: Sequence[int],
    total: int,
    evaluate: Callable[[int, int], tuple[float, float] | None],
    *,
    first: int = 16,
    keep: float = 0.5,
) -> tuple[list[Standing], bool]:
    """Standings, rung by rung, best first; and whether it went to its end.

    `evaluate(candidate, items)` gives the mean score and the mean tokens of an answer over the first `items`, or None
    where the budget does not reach: then the last whole rung stands, or of the first what was looked at. Of equal
    scores the one with fewer tokens is better, then the one that came first. The first candidate is the baseline.
    """
    left = list(candidates)
    standings: list[Standing] = []
    for items in rungs(total, first):
        found: list[tuple[float, float, int]] = []
        for candidate in left:
            worth = evaluate(candidate, items)
            if worth is None:
                looked = [] if standings else _ranked(found, items, {one for _, _, one in found})
                return standings + looked, False
            found.append((-worth[0], worth[1], candidate))
        order = sorted(range(len(found)), key=lambda n: (found[n][0], found[n][1], n))
        last = items == total
        number = len(left) if last else max(1, math.ceil(len(left) * keep))
        staying = {found[n][2] for n in order[:number]} | {left[0]}
        standings += _ranked(found, items, staying)
        left = [candidate for candidate in left if candidate in staying]
    return standings, True


def _ranked(found: Sequence[tuple[float, float, int]], items: int, staying: set[int]) -> list[Standing]:
    """From the best; `found` are (minus the score, tokens, candidate) in the order of asking."""
    order = sorted(range(len(found)), key=lambda n: (found[n][0], found[n][1], n))
    return [Standing(found[n][2], items, -found[n][0], found[n][1], found[n][2] in staying) for n in order]


def last_rung(standings: Sequence[Standing]) -> list[Standing]:
    """Those of the last whole rung, best first."""
    most = max((one.items for one in standings), default=0)
    return [one for one in standings if one.items == most]
