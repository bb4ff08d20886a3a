"""One answer out of several, by each way; and the report of agreement."""

from __future__ import annotations

from typing import Any

import krippendorff
import numpy as np
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.annotation.consensus import agreement_report, consensus
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.annotation.store import Annotation

CHOICE = Question(name="c", kind="choice", instruction="?", labels=("a", "b"))
SEVERAL = Question(name="s", kind="choices", instruction="?", labels=("a", "b", "c"))
RATING = Question(name="r", kind="rating", instruction="?")
ORDER = Question(name="o", kind="ranking", instruction="?")
TEXT = Question(name="t", kind="text", instruction="?")


def said(table: dict[str, list[Any]]) -> list[Annotation]:
    """By item, in the order of annotators."""
    return [
        Annotation(item=item, annotator=f"p{place}", kind="person", value=value)
        for item, values in table.items()
        for place, value in enumerate(values)
    ]


def values(question: Question, table: dict[str, list[Any]], how: Any = "") -> dict[str, Any]:
    return {item: label.value for item, label in consensus(question, said(table), how=how).items()}


def test_votes_and_where_there_is_none():
    table = {"1": ["a", "a", "b"], "2": ["a", "b", None], "3": [None, None, "b"]}
    found = consensus(CHOICE, said(table))
    assert {item: label.value for item, label in found.items()} == {"1": "a", "3": "b"}
    assert found["1"].probability == pytest.approx(2 / 3) and found["3"].probability is None


def test_one_annotators_own_probability_is_kept():
    one = Annotation(item="1", annotator="m", kind="model", value="a", probabilities={"a": 0.7, "b": 0.3})
    assert consensus(CHOICE, [one])["1"].probability == 0.7


def test_other_kinds():
    assert values(RATING, {"1": [1, 5, 4]}, "median") == {"1": 4}
    assert values(RATING, {"1": [1, 5, 5]}) == {"1": 5}
    assert values(SEVERAL, {"1": [["a", "b"], ["b"], ["b", "c"]], "2": [[], []]}) == {"1": ["b"], "2": []}
    assert values(ORDER, {"1": [[0, 1, 2], [1, 0, 2], [1, 2, 0]]}) == {"1": [1, 0, 2]}
    assert values(TEXT, {"1": ["first", "last"]}) == {"1": "last"}


def test_the_label_model_follows_those_who_agree():
    rng = np.random.default_rng(0)
    table = {}
    truth = rng.integers(2, size=300)
    for item, right in enumerate(truth):
        sure = [right if rng.random() < 0.95 else 1 - right for _ in range(2)]
        table[str(item)] = ["ab"[one] for one in (*sure, *rng.integers(2, size=3))]
    vote = values(CHOICE, table)
    model = values(CHOICE, table, "confusion")
    right = lambda found: np.mean([found.get(str(n)) == "ab"[one] for n, one in enumerate(truth)])  # noqa: E731
    assert right(model) > right(vote) + 0.05 and right(model) > 0.9


@pytest.mark.parametrize(
    "question, how", [(TEXT, "vote"), (ORDER, "median"), (CHOICE, "median"), (SEVERAL, "confusion")]
)
def test_ways_that_a_kind_has_not(question: Question, how: Any):
    with pytest.raises(ConfigError, match="not joined by"):
        consensus(question, [], how=how)


def test_the_report_of_labels():
    table = {str(n): ["a" if n % 3 else "b", "a" if n % 4 else "b"] for n in range(40)}
    report = agreement_report(CHOICE, said(table), resamples=50)
    coded = np.array([["ab".index(one) for one in row] for row in table.values()]).T
    assert report["alpha"]["value"] == pytest.approx(
        krippendorff.alpha(coded, level_of_measurement="nominal"), abs=1e-12
    )
    assert report["fleiss_kappa"]["value"] is not None and len(report["cohen_kappa"]) == 1
    pair = report["cohen_kappa"][0]
    assert pair["weights"] == "none" and pair["low"] <= pair["value"] <= pair["high"]
    same = sum(a == b for a, b in table.values()) / 40
    assert pair["same"] == pytest.approx(same)


def test_the_report_of_ratings_is_ordinal_and_weighted():
    table = {str(n): [n % 5 + 1, min(5, n % 5 + 1 + n % 2), None if n % 3 else 3] for n in range(40)}
    report = agreement_report(RATING, said(table), resamples=0)
    coded = np.array([[np.nan if one is None else one for one in row] for row in table.values()]).T
    wanted = krippendorff.alpha(coded, level_of_measurement="ordinal", value_domain=[1, 2, 3, 4, 5])
    assert report["level"] == "ordinal" and report["alpha"]["value"] == pytest.approx(wanted, abs=1e-12)
    assert report["fleiss_kappa"] is None and report["cohen_kappa"][0]["weights"] == "quadratic"


def test_several_labels_one_by_one_and_orders_two_by_two():
    table = {"1": [["a"], ["a", "b"]], "2": [["b"], ["b"]], "3": [[], ["c"]]}
    alphas = agreement_report(SEVERAL, said(table), resamples=0)["alpha"]
    assert alphas["a"]["value"] == 1.0 and alphas["c"]["value"] < alphas["b"]["value"] < 1
    orders = {"1": [[0, 1, 2], [0, 1, 2]], "2": [[2, 1, 0], [2, 1, 0]]}
    assert agreement_report(ORDER, said(orders), resamples=0)["alpha"]["better of two"]["value"] == 1.0


def test_texts_do_not_agree():
    with pytest.raises(DataError, match="not compared"):
        agreement_report(TEXT, [])
