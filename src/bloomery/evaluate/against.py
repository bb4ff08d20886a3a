"""Against: two evaluations of the same samples, metric by metric: what the difference is, and whether it is one.

This module does not know how either was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.errors import ConfigError
from bloomery.evaluate.statistics import adjusted, compare_pair
from bloomery.evaluate.tasks import Record


def compare_records(
    mine: Mapping[str, Sequence[Record]],
    others: Mapping[str, Sequence[Record]],
    *,
    names: tuple[str, str],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """For each task that both have, and each metric: the paired difference, its verdict (Holm over all of them) and the
    share of samples with the same answer. What failed on the way is counted, and said. Perplexities are compared by
    their nats, more being better.

    ConfigError where the samples are not the same, or there is no task that both have.
    """
    places, verdicts = [], []
    for task in [task for task in mine if task in others]:
        one, other = mine[task], others[task]
        if [record.input for record in one] != [record.input for record in other] or len(one) < 2:
            hint = "the same data, limit, few-shot examples and seed for both"
            raise ConfigError(f"{task}: the samples are not the same two or more", hint=hint)
        clusters = [record.cluster or f"\0{place}" for place, record in enumerate(one)]
        dependent = any(record.cluster for record in one) and len(set(clusters)) > 1
        for metric in _metrics(one[0]):
            a, b = ([record.scores.get(metric, 0.0) for record in records] for records in (one, other))
            how: dict[str, Any] = {"clusters": clusters if dependent else None, "seed": seed}
            verdicts.append(compare_pair(a, b, names=names, **how))
            places.append((task, metric, _same(one, other)))
    if not places:
        raise ConfigError("the two evaluations have no task in common", hint="name the same tasks")
    told = []
    for (task, metric, same), verdict in zip(places, adjusted(verdicts), strict=True):
        found = {"task": task, "metric": metric, "same_answer": same, **verdict.to_dict()}
        found["failed"] = sum(a.failed or b.failed for a, b in zip(mine[task], others[task], strict=True))
        if found["failed"]:
            found["sentence"] += f" {found['failed']:,} failed on the way for one of the two, which counts as wrong."
        told.append(found)
    return told


def _metrics(record: Record) -> list[str]:
    """Those that are values of a sample; words and bytes are the texts' own."""
    return [name for name in record.scores if name not in ("words", "bytes", "answers")]


def _same(one: Sequence[Record], other: Sequence[Record]) -> float | None:
    """None where nothing is answered."""
    if not any(record.answer for record in one):
        return None
    return sum(a.answer == b.answer for a, b in zip(one, other, strict=True)) / len(one)
