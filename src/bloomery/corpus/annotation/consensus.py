"""Consensus: one answer a document out of those of several annotators, and how the annotators agree.

Labels, sides and ratings by vote or by the label model over annotators ("confusion"); several labels one by one;
ratings also by their median; orders by mean place (Borda 1781); texts by who wrote last. This module does not know
where answers come from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Any, Literal

import numpy as np

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.annotation.agreement import Agreement, Level, cohen_kappa, fleiss_kappa, krippendorff_alpha
from bloomery.corpus.annotation.label_functions import ABSTAIN
from bloomery.corpus.annotation.label_model import fit_label_model
from bloomery.corpus.annotation.labelled import Label
from bloomery.corpus.annotation.question import SIDES, Question
from bloomery.corpus.annotation.store import Annotation

How = Literal["vote", "confusion", "median", "last"]
_MAX_PAIRS = 200


def consensus(question: Question, answers: Iterable[Annotation], *, how: How | Literal[""] = "") -> dict[str, Label]:
    """By document id; documents without a decision (equally many votes) are left out. `how` "": "last" for texts, else
    "vote". ConfigError for a way that the kind of question has not."""
    found = [one for one in answers if one.value is not None]
    way = how or ("last" if question.kind == "text" else "vote")
    known = {"text": ("last",), "ranking": ("vote", "last"), "choices": ("vote", "last")}
    ways = known.get(question.kind, ("vote", "confusion", "last") + (("median",) if question.kind == "rating" else ()))
    if way not in ways:
        raise ConfigError(f"answers of the kind {question.kind} are not joined by {way}", hint=", ".join(ways))
    if way == "last":
        return {one.item: Label(one.value, _own_chance(one)) for one in found}
    by_item: dict[str, list[Annotation]] = defaultdict(list)
    for one in found:
        by_item[one.item].append(one)
    if way == "confusion":
        return _modelled(question, found)
    joined = {
        "median": lambda values: Label(round(median(values))),
        "ranking": _mean_places,
        "choices": lambda values: _several(question, values),
    }.get("median" if way == "median" else question.kind, _vote)
    made = {item: joined([one.value for one in listed]) for item, listed in by_item.items()}
    single = {item: listed[0] for item, listed in by_item.items() if len(listed) == 1}
    return {
        item: Label(label.value, _own_chance(single[item])) if item in single else label
        for item, label in made.items()
        if label is not None
    }


def _own_chance(one: Annotation) -> float | None:
    """What the annotator itself says of how probable its answer is."""
    return (one.probabilities or {}).get(str(one.value)) if isinstance(one.value, (str, int)) else None


def _vote(values: Sequence[Any]) -> Label | None:
    (best, number), *others = Counter(values).most_common(2)
    if others and others[0][1] == number:
        return None
    return Label(best, number / len(values))


def _several(question: Question, values: Sequence[list[str]]) -> Label:
    """The labels that more than half of them gave."""
    counts = Counter(label for value in values for label in value)
    return Label([label for label in question.labels if 2 * counts[label] > len(values)])


def _mean_places(values: Sequence[list[int]]) -> Label | None:
    lengths = {len(value) for value in values}
    if len(lengths) != 1:
        return None
    places = {one: sum(value.index(one) for value in values) for one in range(lengths.pop())}
    return Label(sorted(places, key=lambda one: (places[one], one)))


def _modelled(question: Question, answers: Sequence[Annotation]) -> dict[str, Label]:
    values = possible(question)
    table, items, _ = answer_table(answers)
    if not items:
        return {}
    votes = np.array([[ABSTAIN if one is None else values.index(one) for one in row] for row in table], np.int64)
    model = fit_label_model(votes, len(values), name="confusion")
    return {
        item: Label(values[int(row.argmax())], float(row.max()))
        for item, row in zip(items, model.probabilities(votes), strict=True)
    }


def possible(question: Question) -> list[Any]:
    """All single answers that there can be, in order."""
    if question.kind == "rating":
        return list(range(question.low, question.high + 1))
    return list(question.labels) if question.kind == "choice" else list(SIDES)


def answer_table(answers: Iterable[Annotation]) -> tuple[list[list[Any]], list[str], list[str]]:
    """(items, annotators): values, None where there is none; and who they are."""
    by_item: dict[str, dict[str, Any]] = defaultdict(dict)
    for one in answers:
        if one.value is not None:
            by_item[one.item][one.annotator] = one.value
    annotators = sorted({name for said in by_item.values() for name in said})
    return [[said.get(name) for name in annotators] for said in by_item.values()], list(by_item), annotators


def agreement_report(
    question: Question, answers: Iterable[Annotation], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Plain data: Krippendorff's alpha of all; Fleiss' kappa where everybody answered everything; Cohen's kappa of each
    two (ratings: weighted by squares). Several labels are compared one by one, orders by each two candidates.

    DataError for texts, which agree on no scale.
    """
    if question.kind == "text":
        raise DataError("texts are not compared by agreement", hint="let people rate or rank them")
    table, items, annotators = answer_table(answers)
    how: dict[str, Any] = {"resamples": resamples, "seed": seed}
    level: Level = question.measured
    report: dict[str, Any] = {"question": question.name, "kind": question.kind, "level": level}
    report |= {"documents": len(items), "annotators": annotators}
    if question.kind in ("choices", "ranking"):
        units = _unfolded(question, table)
        report["alpha"] = {
            name: krippendorff_alpha(rows, level="nominal", **how).to_dict() for name, rows in units.items()
        }
        return report
    order = possible(question)
    report["alpha"] = krippendorff_alpha(table, level=level, order=order, **how).to_dict()
    complete = len(annotators) > 1 and all(one is not None for row in table for one in row)
    report["fleiss_kappa"] = fleiss_kappa(table, **how).to_dict() if complete else None
    weights = "quadratic" if question.kind == "rating" else "none"
    pairs = list(combinations(range(len(annotators)), 2))
    report["pairs_left_out"] = max(0, len(pairs) - _MAX_PAIRS)
    report["cohen_kappa"] = [
        {"one": annotators[a], "other": annotators[b], "weights": weights, **_pair(table, a, b, weights, order, how)}
        for a, b in pairs[:_MAX_PAIRS]
    ]
    return report


def _pair(table: Any, a: int, b: int, weights: Any, order: Any, how: Mapping[str, Any]) -> dict[str, Any]:
    one, other = [row[a] for row in table], [row[b] for row in table]
    both = [(x, y) for x, y in zip(one, other, strict=True) if x is not None and y is not None]
    found: Agreement = cohen_kappa(one, other, weights=weights, order=order, **how)
    same = sum(x == y for x, y in both) / len(both) if both else None
    return {**found.to_dict(), "same": same}


def _unfolded(question: Question, table: Sequence[Sequence[Any]]) -> dict[str, list[list[Any]]]:
    """Several labels as yes or no to each; orders as which of each two is better."""
    if question.kind == "choices":
        return {label: [[None if o is None else label in o for o in row] for row in table] for label in question.labels}
    rows: list[list[Any]] = []
    for row in table:
        size = max((len(one) for one in row if one is not None), default=0)
        for a, b in combinations(range(size), 2):
            rows.append([None if one is None or len(one) != size else one.index(a) < one.index(b) for one in row])
    return {"better of two": rows}
