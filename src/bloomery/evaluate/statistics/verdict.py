"""Verdict: what a comparison has shown, in one sentence: A is better, B is better, or how many items would tell.

"Not distinguishable" is no "equal": the sentence says how many items the difference that was seen would need, were it
the true one. This module does not know where scores come from.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

from numpy.typing import ArrayLike

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.holm import holm
from bloomery.evaluate.statistics.paired import PairedDifference, Test, Way, paired_difference
from bloomery.evaluate.statistics.power import ALPHA, POWER, needed_paired, needed_paired_binary

Outcome = Literal["A better", "B better", "not distinguishable"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`needed` None: the two do not differ, or so little that no number of items would show it."""

    a: str
    b: str
    outcome: Outcome
    difference: PairedDifference
    p_value: float
    """What was held against `alpha`: adjusted where there were several comparisons."""
    comparisons: int = 1
    alpha: float = ALPHA
    power: float = POWER
    needed: int | None = None

    @property
    def better(self) -> str | None:
        """The name of the better one; None where they are not distinguishable."""
        return {"A better": self.a, "B better": self.b}.get(self.outcome)

    def sentence(self) -> str:
        """One sentence for people."""
        found = self.difference.difference
        n, p = found.n, f"p = {self.p_value:.2g}"
        holms = f", Holm over {self.comparisons}" if self.comparisons > 1 else ""
        if self.better is not None:
            sign = 1 if self.outcome == "A better" else -1
            low, high = sorted((sign * found.low, sign * found.high))
            other = self.b if self.outcome == "A better" else self.a
            by = f"{sign * found.value:.3f} ({low:.3f} to {high:.3f}; n = {n:,}, {p}{holms})"
            return f"{self.better} is better than {other} by {by}."
        seen = f"{self.a} and {self.b} are not distinguishable at n = {n:,} (difference {found.text()}, {p}{holms})"
        if self.needed is None:
            return f"{seen}; no number of items would show a difference of nothing."
        return f"{seen}; about {self.needed:,} needed to show that difference."

    def to_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "difference": self.difference.to_dict(),
            "better": self.better,
            "sentence": self.sentence(),
        }


def judge_difference(
    found: PairedDifference, *, a: str = "A", b: str = "B", alpha: float = ALPHA, power: float = POWER
) -> Verdict:
    """The verdict on one difference that is known."""
    outcome = _outcome(found, found.p_value, alpha)
    needed = _needed(found, alpha, power) if outcome == "not distinguishable" else None
    return Verdict(
        a=a, b=b, outcome=outcome, difference=found, p_value=found.p_value, alpha=alpha, power=power, needed=needed
    )


def compare_pair(
    a: ArrayLike,
    b: ArrayLike,
    *,
    names: tuple[str, str] = ("A", "B"),
    clusters: Sequence[Hashable] | None = None,
    way: Way = "auto",
    test: Test = "auto",
    alpha: float = ALPHA,
    power: float = POWER,
    seed: int = 0,
) -> Verdict:
    """Scores of two on the same items, in the same order."""
    found = paired_difference(a, b, clusters=clusters, way=way, test=test, level=1 - alpha, seed=seed)
    return judge_difference(found, a=names[0], b=names[1], alpha=alpha, power=power)


def compare_all(
    scores: Mapping[str, ArrayLike],
    *,
    against: str | None = None,
    clusters: Sequence[Hashable] | None = None,
    way: Way = "auto",
    test: Test = "auto",
    alpha: float = ALPHA,
    power: float = POWER,
    seed: int = 0,
) -> tuple[Verdict, ...]:
    """Every two arms, or each with the one that is `against`; p-values are Holm's over all of them.

    Intervals are each for itself, so that one may leave out 0 while its verdict says "not distinguishable".
    """
    if against is not None and against not in scores:
        raise DataError(f"{against!r:.60} is none of the arms", hint="arms: " + ", ".join(scores))
    pairs = list(combinations(scores, 2)) if against is None else [(one, against) for one in scores if one != against]
    how: dict[str, Any] = {"clusters": clusters, "way": way, "test": test, "alpha": alpha, "power": power, "seed": seed}
    single = [compare_pair(scores[a], scores[b], names=(a, b), **how) for a, b in pairs]
    return adjusted(single)


def adjusted(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The same comparisons, with Holm's p-values over all of them."""
    raised = holm([one.difference.p_value for one in verdicts])
    made = []
    for one, p in zip(verdicts, raised, strict=True):
        outcome = _outcome(one.difference, p, one.alpha)
        needed = _needed(one.difference, one.alpha, one.power) if outcome == "not distinguishable" else None
        made.append(replace(one, outcome=outcome, p_value=p, comparisons=len(verdicts), needed=needed))
    return tuple(made)


def _outcome(found: PairedDifference, p_value: float, alpha: float) -> Outcome:
    value = found.difference.value
    if p_value >= alpha or value == 0:
        return "not distinguishable"
    return "A better" if value > 0 else "B better"


def _needed(found: PairedDifference, alpha: float, power: float) -> int | None:
    value = found.difference.value
    if value == 0:
        return None
    how: dict[str, Any] = {"alpha": alpha, "power": power, "design_effect": max(1.0, found.design_effect)}
    if found.binary:
        return needed_paired_binary(value, found.discordance, **how)
    return needed_paired(value, found.sd, **how)
