"""Ranking: what the locked test has shown of all arms together, in one sentence, and which is recommended.

Every two arms are compared on the same questions, with Holm's correction over all pairs, so that "is better" is said
by mistake in at most `alpha` of the runs, however many arms there are and whichever looks best: picking the best and
testing it as if it had been named before would say so far more often. `undefeated` are the arms that no other is shown
to be better than; with a chance of 1 - alpha the best is among them, and the cheapest of them is recommended. This
module does not know what arms are or cost: an order of costs is handed to it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics import (
    Detectable,
    Interval,
    Verdict,
    compare_all,
    detectable_paired,
    detectable_paired_binary,
    estimate,
    needed_paired,
    needed_paired_binary,
)

ASSUMED_DISCORDANCE = 0.2
"""Share of questions on which two arms differ, before anything is known."""
ASSUMED_SD = 0.4
"""Of two arms' difference on a question, for metrics that are not right or wrong."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """`quality` is in the order of the means, the best first; `pairs` are every two arms."""

    quality: Mapping[str, Interval]
    pairs: tuple[Verdict, ...]
    undefeated: tuple[str, ...]
    recommended: str
    needed: int | None
    """Questions that would tell the recommended from the best mean (or from the runner-up), were the difference that
    was seen the true one; None where nothing is to be told, or nothing would tell."""
    sentence: str

    @property
    def distinguishable(self) -> bool:
        """Whether any two arms were told apart."""
        return any(pair.better is not None for pair in self.pairs)

    def to_dict(self) -> dict[str, Any]:
        return {
            "quality": {name: one.to_dict() for name, one in self.quality.items()},
            "pairs": [one.to_dict() for one in self.pairs],
            "undefeated": list(self.undefeated),
            "recommended": self.recommended,
            "needed": self.needed,
            "distinguishable": self.distinguishable,
            "sentence": self.sentence,
        }


def ranked(
    scores: Mapping[str, Sequence[float]],
    cheapest_first: Sequence[str],
    *,
    clusters: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
    constant: str = "",
) -> Ranking:
    """Scores of each arm on the same questions, in the same order; `cheapest_first` names every arm. `constant` is the
    one that gives the same answer to everything, if there is one."""
    if not scores or set(cheapest_first) != set(scores):
        raise DataError("an order of costs is needed for every arm, and one arm at least")
    quality = {name: estimate(values, clusters=clusters) for name, values in scores.items()}
    place = {name: number for number, name in enumerate(cheapest_first)}
    given = {name: number for number, name in enumerate(scores)}
    names = sorted(scores, key=lambda name: (-quality[name].value, given[name]))
    quality = {name: quality[name] for name in names}
    pairs: tuple[Verdict, ...] = ()
    if len(names) > 1:
        ordered = {name: scores[name] for name in names}
        pairs = compare_all(ordered, clusters=clusters, alpha=alpha, seed=seed)
    beaten = {pair.b if pair.better == pair.a else pair.a for pair in pairs if pair.better is not None}
    undefeated = tuple(name for name in names if name not in beaten)
    recommended = min(undefeated, key=lambda name: place[name])
    pair = _telling(pairs, names, undefeated, recommended)
    needed = None if pair is None or pair.better is not None else needed_items(pair, alpha)
    sentence = _sentence(quality, names, undefeated, recommended, pair, needed, len(pairs), constant)
    return Ranking(
        quality=quality,
        pairs=pairs,
        undefeated=undefeated,
        recommended=recommended,
        needed=needed,
        sentence=sentence,
    )


def _telling(
    pairs: Sequence[Verdict], names: Sequence[str], undefeated: Sequence[str], recommended: str
) -> Verdict | None:
    """The pair that the sentence tells: the one arm that is left and the runner-up; else the recommended and the best
    mean, or the best and the next where those are the same."""
    if len(names) < 2:
        return None
    first = undefeated[0]
    if len(undefeated) == 1:
        other = next(name for name in names if name != first)
    else:
        other = recommended if recommended != first else undefeated[1]
    return next(pair for pair in pairs if {pair.a, pair.b} == {first, other})


def needed_items(pair: Verdict, alpha: float) -> int | None:
    """Questions at which the difference that was seen would show in four of five runs, at the level that the first
    step of Holm's procedure asks for."""
    found = pair.difference
    value, level = found.difference.value, alpha / pair.comparisons
    if value == 0:
        return None
    how: dict[str, Any] = {"alpha": level, "design_effect": max(1.0, found.design_effect)}
    if found.binary:
        return needed_paired_binary(value, found.discordance, **how)
    return needed_paired(value, found.sd, **how)


def _sentence(
    quality: Mapping[str, Interval],
    names: Sequence[str],
    undefeated: Sequence[str],
    recommended: str,
    pair: Verdict | None,
    needed: int | None,
    comparisons: int,
    constant: str,
) -> str:
    if pair is None:
        return f"Only {names[0]} took part: {quality[names[0]].text()}; nothing to compare it with."
    n = quality[names[0]].n
    if len(undefeated) == 1:
        others = "every other arm" if len(names) > 2 else names[1]
        found = pair.difference.difference
        sign = 1 if pair.a == undefeated[0] else -1
        low, high = sorted((sign * found.low, sign * found.high))
        by = f"{sign * found.value:.3f} ({low:.3f} to {high:.3f}; n = {n:,}, p = {pair.p_value:.2g}"
        over = "" if len(names) == 2 else f" over {pair.b if sign > 0 else pair.a}, the next best"
        holm = f", Holm over {comparisons})" if comparisons > 1 else ")"
        told = "" if pair.better is not None else " (together; the pair alone is not distinguishable)"
        return f"{undefeated[0]} is better than {others}, by {by}{holm}{over}{told}."
    listed = ", ".join(undefeated[:-1]) + f" and {undefeated[-1]}"
    same = f"{pair.a} and {pair.b} were right equally often" if pair.difference.binary else "no difference was seen"
    more = same if needed is None else f"about {needed:,} needed"
    if recommended == constant:
        same_answer = f"No arm was shown to be better than {constant}, which always gives the most common answer"
        return f"{same_answer}: {listed} are not distinguishable at n = {n:,}, {more}."
    reason = f"{recommended}, the cheapest of them, is recommended"
    return f"{listed} are not distinguishable at n = {n:,}, {more}: {reason}."


def spread_on_dev(scores: Mapping[str, Sequence[float]], *, binary: bool) -> float | None:
    """The median, over every two arms with the same questions, of the share on which they differ, or of the standard
    deviation of their difference; None where there are no two."""
    found = []
    for one, other in combinations(scores.values(), 2):
        if len(one) == len(other) > 1:
            apart = np.asarray(one) - np.asarray(other)
            found.append(float((apart != 0).mean() if binary else apart.std(ddof=1)))
    return float(np.median(found)) if found else None


def detectable(
    n: int, comparisons: int, *, alpha: float, binary: bool, spread: float | None = None, design_effect: float = 1.0
) -> Detectable:
    """The smallest difference between two arms that n questions show in four of five runs, at the strictest level that
    Holm's procedure asks for. `spread`: the share of questions on which two arms differ, or the standard deviation of
    their difference; None where nothing is known yet."""
    level = alpha / max(1, comparisons)
    if binary:
        return detectable_paired_binary(n, spread or ASSUMED_DISCORDANCE, alpha=level, design_effect=design_effect)
    return detectable_paired(n, spread or ASSUMED_SD, alpha=level, design_effect=design_effect)
