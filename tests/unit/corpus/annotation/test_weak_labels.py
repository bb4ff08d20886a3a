"""Labelling functions over a corpus: from rules to labels that are better than votes, without looking at gold ones."""

from __future__ import annotations

import pytest

from bloomery.core.errors import DataError
from bloomery.corpus.annotation.label_functions import LabelFunction, RuleSet, read_rules
from bloomery.corpus.annotation.store import AnnotationStore
from bloomery.corpus.annotation.weak_labels import weak_labels
from bloomery.corpus.shards import read_documents


def test_labels_and_what_is_told_of_them(spam):
    rules = read_rules(spam.rules)
    found = weak_labels(spam.corpus, rules, gold_field="kind")
    report = found.report
    assert [row["name"] for row in report["functions"]] == ["prizes", "numbers", "money", "people", "places"]
    for row in report["functions"]:
        assert row["estimated_accuracy"] == pytest.approx(row["accuracy"], abs=0.15)
    test = report["against_gold"]["test"]
    # Three functions of four or so are right nine times in ten: anything below would be a fault.
    assert test["label_model"] >= max(0.85, test["majority_vote"] - 0.05) and report["converged"]
    assert not report["worse_than_chance"]
    gold = {one.id: one.metadata["kind"] for one in read_documents(spam.corpus, "test")}
    labels = found.labels()
    right = [labels[key].value == value for key, value in gold.items() if key in labels]
    assert sum(right) / len(right) >= 0.85


def test_gold_labels_change_nothing(spam):
    rules = read_rules(spam.rules)
    assert weak_labels(spam.corpus, rules).labels() == weak_labels(spam.corpus, rules, gold_field="kind").labels()
    assert "against_gold" not in weak_labels(spam.corpus, rules).report


def test_only_what_a_function_speaks_of_has_a_label(spam):
    found = weak_labels(spam.corpus, read_rules(spam.rules))
    silent = [
        item
        for split, votes in found.votes.items()
        for item, row in zip(found.ids[split], votes, strict=True)
        if (row < 0).all()
    ]
    assert silent and not set(silent) & set(found.labels())


def test_labels_are_answers_for_the_store(spam, tmp_path):
    found = weak_labels(spam.corpus, read_rules(spam.rules))
    with AnnotationStore(tmp_path / "a.sqlite") as store:
        assert store.add_all(found.rules.question, found.annotations()) == len(found.labels())
        assert store.add_all(found.rules.question, found.annotations()) == 0
        for one in store.answers(found.rules.question):
            assert one.kind == "rules" and one.probabilities is not None
            assert one.value == max(one.probabilities, key=one.probabilities.__getitem__)


def test_functions_that_say_nothing(spam):
    rules = RuleSet(read_rules(spam.rules).question, (LabelFunction("silent", lambda document: None),))
    with pytest.raises(DataError, match="no annotator says anything"):
        weak_labels(spam.corpus, rules)


def test_functions_that_seem_worse_than_chance_are_named(spam):
    rules = read_rules(spam.rules)
    astray = weak_labels(spam.corpus, rules, name="accuracy", balance=[0.999, 0.001])
    assert set(astray.report["worse_than_chance"]) >= {"prizes", "numbers", "money"}
