"""Evaluation: rankings of documents held to judgements: nDCG@10, recall, MRR and MAP, with intervals over queries.

Measures are those of ir-measures (trec_eval's); a query without a judged answer is left out, as trec_eval does, and one
for which nothing was found counts 0. Intervals are 95%, by a BCa bootstrap over queries; differences of two systems are
paired by query. A document is ranked where the best of its chunks is. This module does not know how anything is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bloomery.core.errors import DataError, MissingExtraError, nearest
from bloomery.evaluate.statistics import Interval, bootstrap_mean
from bloomery.retrieve.chunk import Hit
from bloomery.retrieve.measures.judgements import Judgements

Ranked = Mapping[str, Sequence[tuple[str, float]]]
"""A query's id to (document, score), best first."""
MEASURES = ("nDCG@10", "R@10", "R@100", "RR", "AP")
"""By ir-measures' names: recall is R, MRR is RR, MAP is AP."""


def by_document(hits: Sequence[Hit], k: int) -> list[tuple[str, float]]:
    """The documents of hits, each once, where its best chunk is; at most k."""
    found: dict[str, float] = {}
    for hit in hits:
        if hit.chunk.document_id not in found and len(found) < k:
            found[hit.chunk.document_id] = hit.score
    return list(found.items())


def per_query(
    ranked: Ranked, judgements: Judgements, measures: Sequence[str] = MEASURES
) -> dict[str, dict[str, float]]:
    """Each measure's value of each query that has an answer. MissingExtraError without ir-measures, DataError for an
    unknown measure, or no query that both have."""
    try:
        import ir_measures
    except ImportError:
        raise MissingExtraError("ir-measures", "retrieve", "measuring rankings") from None
    parsed = {}
    for name in measures:
        try:
            parsed[name] = ir_measures.parse_measure(name)
        except (NameError, ValueError, SyntaxError):
            raise DataError(f"unknown measure {name!r}", hint=nearest(name, MEASURES)) from None
    judged = {query for query, grades in judgements.items() if any(grade > 0 for grade in grades.values())}
    answered = judged & ranked.keys()
    if not answered:
        raise DataError("no query has both a ranking and a judged answer", hint="are the ids those of the same set?")
    qrels = {query: dict(judgements[query]) for query in sorted(answered)}
    # By place, not by score: sorting would part equal scores by the documents' ids.
    run = {query: {name: -float(at) for at, (name, _) in enumerate(ranked[query])} for query in sorted(answered)}
    found: dict[str, dict[str, float]] = {name: dict.fromkeys(sorted(answered), 0.0) for name in measures}
    for value in ir_measures.iter_calc(list(parsed.values()), qrels, run):
        name = next(one for one, measure in parsed.items() if measure == value.measure)
        found[name][value.query_id] = float(value.value)
    return found


def evaluate(
    ranked: Ranked, judgements: Judgements, measures: Sequence[str] = MEASURES, *, seed: int = 0
) -> dict[str, Interval]:
    """Means with their intervals, by measure. Raises as `per_query`, and for a single query."""
    found = per_query(ranked, judgements, measures)
    return {name: bootstrap_mean(list(found[name].values()), seed=seed) for name in measures}


def difference(
    one: Ranked, other: Ranked, judgements: Judgements, measure: str = "nDCG@10", *, seed: int = 0
) -> Interval:
    """`one` minus `other` by one measure, paired by query. DataError where they are not of the same queries."""
    first, second = (per_query(ranked, judgements, (measure,))[measure] for ranked in (one, other))
    if first.keys() != second.keys():
        raise DataError("the two rankings are of different queries", hint="search both for the same ones")
    return bootstrap_mean([first[query] - second[query] for query in first], seed=seed)
