"""Metrics: what likelihoods are worth, sample by sample, and what samples are together, with 95% intervals.

Accuracies are lm-evaluation-harness's: `accuracy` its acc, `accuracy_by_characters` its acc_norm (log-probability over
characters), `accuracy_by_bytes` its acc_bytes. This module does not know how models are asked.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bloomery.core.likelihood import Likelihood
from bloomery.evaluate.statistics import Interval, estimate
from bloomery.evaluate.tasks.question import Question
from bloomery.evaluate.tasks.task import Task

if TYPE_CHECKING:
    from bloomery.evaluate.tasks.record import Record

_Z = 1.959964
LOWER_IS_BETTER = frozenset({"perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"})
_OVER = {"perplexity": "answers", "word_perplexity": "words", "byte_perplexity": "bytes", "bits_per_byte": "bytes"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric over samples. `low` and `high` are a 95% interval, None where there is none."""

    value: float
    low: float | None
    high: float | None
    samples: int
    method: str
    caution: str = ""
    """Why the interval may be too short; empty where it holds."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def likelihood_scores(task: Task, question: Question, found: Sequence[Likelihood]) -> dict[str, float]:
    """By metric; perplexities as `nats`, and what they are per."""
    if task.kind in ("choice", "context"):
        return _choice_scores(task, question, [one.nats for one in found])
    one = found[0]
    if task.kind == "last_word":
        return {"accuracy": float(one.greedy), "nats": one.nats, "answers": 1.0}
    text = question.sample.targets[0]
    return {"nats": one.nats, "words": float(len(re.split(r"\s+", text))), "bytes": float(len(text.encode()))}


def _choice_scores(task: Task, question: Question, nats: Sequence[float]) -> dict[str, float]:
    choices = question.choices
    lengths = {
        "accuracy": [1.0] * len(nats),
        "accuracy_by_characters": [float(len(choice)) for choice in choices],
        "accuracy_by_bytes": [float(len(choice.encode())) for choice in choices],
    }
    scores: dict[str, float] = {}
    for metric in task.measured:
        if metric == "mass_of_right":
            scores[metric] = _mass(nats, question.golds)
        else:
            each = [n / length for n, length in zip(nats, lengths[metric], strict=True)]
            scores[metric] = float(each.index(max(each)) in question.golds)
    return scores


def _mass(nats: Sequence[float], golds: Sequence[int]) -> float:
    """The probability of right choices among all (Lin et al., arXiv 2109.07958, MC2)."""
    most = max(nats)
    each = [math.exp(n - most) for n in nats]
    return sum(each[place] for place in golds) / sum(each)


def figures(task: Task, records: Sequence[Record], metrics: Sequence[str]) -> dict[str, Figure]:
    """Each metric over all samples; of a task whose groups are averaged, the mean over these."""
    return {metric: _figure(task, records, metric) for metric in metrics}


def by_group(task: Task, records: Sequence[Record], metrics: Sequence[str]) -> dict[str, dict[str, Figure]]:
    """The metrics of each group, in the order of their names."""
    grouped: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.group:
            grouped[record.group].append(record)
    return {name: {m: _figure(task, own, m, whole=False) for m in metrics} for name, own in sorted(grouped.items())}


def _figure(task: Task, records: Sequence[Record], metric: str, *, whole: bool = True) -> Figure:
    if metric in LOWER_IS_BETTER:
        return _per(records, metric)
    values = [record.scores.get(metric, 0.0) for record in records]
    if whole and task.groups == "mean" and any(record.group for record in records):
        return _mean_of_groups(task, records, metric)
    if any("parts" in record.details.get(metric, {}) for record in records):
        return _of_parts(records, metric)
    clusters = [record.cluster for record in records]
    return of_values(values, clusters if any(clusters) else None)


def _of_parts(records: Sequence[Record], metric: str) -> Figure:
    """Of samples that are several questions: each of these counts once, and those of one sample hang together."""
    values: list[float] = []
    clusters: list[str] = []
    for place, record in enumerate(records):
        parts = record.details.get(metric, {}).get("parts", [0.0])
        values += parts
        clusters += [record.cluster or f"\0{place}"] * len(parts)
    return replace(of_values(values, clusters), samples=len(records))


def of_values(values: Sequence[float], clusters: Sequence[str] | None = None) -> Figure:
    """A mean with its interval: Wilson's for shares, clustered where samples hang together, else Student's t."""
    binary = set(values) <= {0.0, 1.0}
    named = None if clusters is None else [cluster or f"\0{place}" for place, cluster in enumerate(clusters)]
    if named is not None and len(set(named)) < 2:
        return Figure(value=_mean(values), low=None, high=None, samples=len(values), method="one cluster")
    if not binary and len(values) < 2:
        return Figure(value=_mean(values), low=None, high=None, samples=len(values), method="one sample")
    return _of(estimate(values, clusters=named))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _of(found: Interval) -> Figure:
    told = {"samples": found.n, "method": found.method, "caution": found.caution}
    return Figure(value=found.value, low=found.low, high=found.high, **told)


def _mean_of_groups(task: Task, records: Sequence[Record], metric: str) -> Figure:
    """Groups are fixed, samples within them drawn: the variance is the mean's of theirs."""
    grouped: dict[str, list[float]] = defaultdict(list)
    for record in records:
        grouped[record.group].append(record.scores.get(metric, 0.0))
    means = [_mean(own) for own in grouped.values()]
    mean = _mean(means)
    variance = 0.0
    for own, middle in zip(grouped.values(), means, strict=True):
        variance += sum((v - middle) ** 2 for v in own) / max(1, len(own) - 1) / len(own)
    half = _Z * math.sqrt(variance) / len(means)
    return Figure(value=mean, low=mean - half, high=mean + half, samples=len(records), method="mean of groups")


def _per(records: Sequence[Record], metric: str) -> Figure:
    """exp(-nats per unit); the interval is that of the ratio's logarithm, by its linearisation over samples."""
    nats = [record.scores["nats"] for record in records]
    units = [record.scores[_OVER[metric]] for record in records]
    n, total = len(records), sum(units)
    rate = -sum(nats) / total
    spread = sum((-a - rate * b) ** 2 for a, b in zip(nats, units, strict=True)) / max(1, n - 1)
    half = _Z * math.sqrt(spread * n) / total
    bounds = (rate, rate - half, rate + half)
    if metric == "bits_per_byte":
        value, low, high = (one / math.log(2) for one in bounds)
    else:
        value, low, high = (math.exp(min(one, 700.0)) for one in bounds)
    known = n > 1
    return Figure(value=value, low=low if known else None, high=high if known else None, samples=n, method="ratio")
