"""Rare: how well arms that tell a probability put the rare one of two labels first: average precision.

It is told beside the verdict and never decides it: average precision is a figure of a whole order, not the mean of
what single questions are worth, which is what arms are compared by, pair by pair. Intervals resample clusters. This
module does not know arms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.adapt.classic.ranking import ranked
from bloomery.evaluate.sample import Answered, Sample

_RESAMPLES = 1000


def rare_label(
    answers: Mapping[str, Sequence[Answered]], test: Sequence[Sample], *, seed: int = 0
) -> dict[str, Any] | None:
    """{"label", "share", "arms": [{"name", "value", "low", "high"}]}, the best first; None where the test's answers are
    not of two labels, or no arm tells how sure it is. Of labels that are equally frequent the later one counts."""
    if any(len(one.targets) != 1 for one in test):
        return None
    counts = Counter(one.targets[0] for one in test)
    if len(counts) != 2:
        return None
    label = min(sorted(counts, reverse=True), key=lambda name: counts[name])
    truth = [one.targets[0] == label for one in test]
    clusters = [one.cluster or one.id for one in test] if any(one.cluster for one in test) else None
    arms = []
    for name, given in answers.items():
        scores = [_chance(one, label) for one in given]
        known = [one for one in scores if one is not None]
        if len(known) == len(test):
            found = ranked(truth, known, clusters=clusters, resamples=_RESAMPLES, seed=seed)["average_precision"]
            arms.append({"name": name, "value": found.value, "low": found.low, "high": found.high})
    arms.sort(key=lambda one: -one["value"])
    return {"label": label, "share": counts[label] / len(test), "arms": arms} if arms else None


def _chance(answer: Answered, label: str) -> float | None:
    """Of the label, as the answerer says: its confidence in it, or in the other. None where it does not say."""
    if answer.error or answer.confidence is None:
        return None
    return answer.confidence if answer.text == label else 1.0 - answer.confidence
