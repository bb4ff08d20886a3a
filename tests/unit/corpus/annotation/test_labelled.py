"""A corpus with labels: what stays, what goes and why, and how labels compare with gold ones."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus.annotation.labelled import Label, LabelledConfig, label_corpus
from bloomery.corpus.document import Document
from bloomery.corpus.shards import DROPPED_FILE, read_documents, read_lines

SPLITS = ("train", "validation", "test")


def documents(spam: Any) -> dict[str, list[Document]]:
    return {split: list(read_documents(spam.corpus, split)) for split in SPLITS}


def test_documents_and_splits_stay_and_labels_are_added(spam):
    before = documents(spam)
    labels = {one.id: Label("spam", 0.75) for listed in before.values() for one in listed}
    made = label_corpus(spam.corpus, labels, config=LabelledConfig(field="said"), workspace=spam.workspace)
    for split in SPLITS:
        after = list(read_documents(made, split))
        assert [one.id for one in after] == [one.id for one in before[split]]
        assert all(one.metadata["said"] == "spam" and one.metadata["said_probability"] == 0.75 for one in after)
        assert [one.metadata["kind"] for one in after] == [one.metadata["kind"] for one in before[split]]
    assert made.kind == "corpus" and made.parents == (spam.corpus.id,)
    assert made.metrics["labels"]["train"] == {"spam": len(before["train"])}


def test_what_has_no_label_goes_with_the_reason(spam):
    train = documents(spam)["train"]
    labels = {train[0].id: Label("ham", 0.9), train[1].id: Label("ham", 0.4), train[2].id: Label("ham")}
    config = LabelledConfig(min_probability=0.5)
    made = label_corpus(spam.corpus, labels, config=config, workspace=spam.workspace)
    assert [one.id for one in read_documents(made, "train")] == [train[0].id, train[2].id]
    dropped = {row["id"]: row["reason"] for row in read_lines(made.file(DROPPED_FILE))}
    assert dropped[train[1].id] == "improbable_label" and dropped[train[3].id] == "unlabelled"
    total = sum(len(listed) for listed in documents(spam).values())
    assert made.metrics["dropped"] == {"improbable_label": 1, "unlabelled": total - 3}
    kept = label_corpus(spam.corpus, labels, config=LabelledConfig(keep_unlabelled=True), workspace=spam.workspace)
    assert len(list(read_documents(kept, "train"))) == len(train) and not kept.metrics["dropped"]


def test_against_gold_and_gold_instead(spam):
    before = documents(spam)
    labels = {one.id: Label("ham") for one in before["train"] + before["test"]}
    config = LabelledConfig(field="kind", gold_field="kind", gold_splits=("test",))
    made = label_corpus(spam.corpus, labels, config=config, workspace=spam.workspace)
    gold = [one.metadata["kind"] for one in before["test"]]
    assert [one.metadata["kind"] for one in read_documents(made, "test")] == gold
    assert {one.metadata["kind"] for one in read_documents(made, "train")} == {"ham"}
    assert [one.metadata["gold_kind"] for one in read_documents(made, "train")] == [
        one.metadata["kind"] for one in before["train"]
    ]
    compared = made.metrics["against_gold"]["test"]
    assert compared["judged"] == len(gold) and compared["accuracy"] == pytest.approx(gold.count("ham") / len(gold))
    assert made.metrics["against_gold"]["validation"]["judged"] == 0


def test_the_same_again_is_not_made_again(spam):
    labels = {documents(spam)["train"][0].id: Label("a", 0.5)}
    first = label_corpus(spam.corpus, labels, workspace=spam.workspace)
    runs = len(spam.workspace.ledger.runs(stage="annotate", limit=100))
    assert label_corpus(spam.corpus, labels, workspace=spam.workspace).id == first.id
    assert len(spam.workspace.ledger.runs(stage="annotate", limit=100)) == runs
    other = {key: Label("b", 0.5) for key in labels}
    assert label_corpus(spam.corpus, other, workspace=spam.workspace).id != first.id


def test_nothing_to_train_on(spam):
    with pytest.raises(DataError, match="no training document has a label"):
        label_corpus(spam.corpus, {}, workspace=spam.workspace)


@pytest.mark.parametrize(
    "values",
    [
        {"field": ""},
        {"min_probability": 2.0},
        {"gold_splits": ("tran",), "gold_field": "x"},
        {"gold_splits": ("test",)},
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any]):
    with pytest.raises(ConfigError):
        LabelledConfig(**values)
