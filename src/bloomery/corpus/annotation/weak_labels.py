"""Weak labels: labelling functions over a corpus, weighed against each other, and what came of each function.

The label model is fitted on the training split alone; gold labels are compared with, never learnt from. This module
does not know how labels become a corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.artifact import Artifact
from bloomery.core.config import digest
from bloomery.corpus.annotation.label_functions import RuleSet, Votes
from bloomery.corpus.annotation.label_model import LabelModel, ModelName, fit_label_model, majority, summary
from bloomery.corpus.annotation.labelled import Label
from bloomery.corpus.annotation.store import Annotation
from bloomery.corpus.document import Document
from bloomery.corpus.rows import field_of
from bloomery.corpus.shards import read_documents
from bloomery.corpus.split import SPLITS


@dataclass(frozen=True)
class WeakLabels:
    """Ids and votes of the documents by split, the fitted model, and what came of it as plain data: `report`. Texts are
    not held: memory grows by a few bytes a document and function."""

    corpus: Artifact
    rules: RuleSet
    model: LabelModel
    ids: dict[str, list[str]]
    votes: dict[str, Votes]
    report: dict[str, Any]

    def labels(self) -> dict[str, Label]:
        """By document id; only of documents of which a function said something. Of equally probable labels, none."""
        names = self.rules.question.labels
        found: dict[str, Label] = {}
        for split, votes in self.votes.items():
            chances = self.model.probabilities(votes)
            decided = ((votes >= 0).any(1) & ~_tied(chances)).tolist()
            for item, row, said in zip(self.ids[split], chances, decided, strict=True):
                if said:
                    best = int(row.argmax())
                    found[item] = Label(names[best], float(row[best]))
        return found

    def annotations(self) -> Iterator[tuple[Document, Annotation]]:
        """The labels as answers to the question, of the annotator "rules:" and a digest of the functions."""
        name = f"rules:{self.rules.question.name}-{self.rules.digest[:8]}"
        names = self.rules.question.labels
        labels = self.labels()
        detail = {"label_model": self.model.name, "functions": self.rules.digest, "corpus": self.corpus.id}
        origin = digest([self.rules.digest, self.model.name, [f"{one:.9g}" for one in self.model.accuracies]])[:16]
        for split, votes in self.votes.items():
            chances = self.model.probabilities(votes)
            for document, row in zip(read_documents(self.corpus, split), chances, strict=True):
                if (label := labels.get(document.id)) is None:
                    continue
                shares = {one: float(share) for one, share in zip(names, row, strict=True)}
                made = Annotation(
                    item=document.id,
                    annotator=name,
                    kind="rules",
                    value=label.value,
                    origin=origin,
                    probabilities=shares,
                    detail=detail,
                )
                yield document, made


def weak_labels(
    corpus: Artifact, rules: RuleSet, *, name: ModelName = "firing", balance: Any = None, gold_field: str = ""
) -> WeakLabels:
    """Apply the functions to every split, fit on the training split. DataError if no function says anything there."""
    labels = rules.question.labels
    ids: dict[str, list[str]] = {split: [] for split in SPLITS}
    gold: dict[str, NDArray[np.int64]] = {}
    votes = {}
    for split in SPLITS:
        truths: list[int] = []
        votes[split] = rules.votes(_noted(corpus, split, ids[split], truths, gold_field, labels))
        gold[split] = np.array(truths, np.int64)
    model = fit_label_model(votes["train"], len(labels), name=name, balance=balance)
    functions = summary(votes["train"], len(labels), gold["train"] if gold_field else None)
    for place, (row, function) in enumerate(zip(functions, rules.functions, strict=True)):
        estimated = float(model.accuracies[place])
        row["labels"] = [labels[one] for one in row["labels"]]
        row["estimated_accuracy"] = None if np.isnan(estimated) else estimated
        row["name"] = function.name
    report: dict[str, Any] = {
        "label_model": name,
        "rounds": model.rounds,
        "converged": model.converged,
        "balance": dict(zip(labels, map(float, model.balance), strict=True)),
        "coverage": {split: float((one >= 0).any(1).mean()) if len(one) else None for split, one in votes.items()},
        "functions": functions,
        "worse_than_chance": _worse_than_chance(functions, len(labels)),
    }
    if gold_field:
        report["against_gold"] = {
            split: _against(votes[split], model, gold[split], len(labels)) for split in SPLITS if len(votes[split])
        }
    return WeakLabels(corpus, rules, model, ids, votes, report)


def _worse_than_chance(functions: list[dict[str, Any]], num_labels: int) -> list[str]:
    estimated = [(row["name"], row["estimated_accuracy"]) for row in functions]
    return [name for name, accuracy in estimated if accuracy is not None and accuracy < 1 / num_labels]


def _noted(
    corpus: Artifact, split: str, ids: list[str], truths: list[int], gold_field: str, labels: tuple[str, ...]
) -> Iterator[Document]:
    """The documents of a split, their ids and gold labels written down on the way: places of labels, or -1."""
    places = {label: place for place, label in enumerate(labels)}
    for document in read_documents(corpus, split):
        ids.append(document.id)
        truths.append(places.get(str(field_of(document.metadata, gold_field)), -1) if gold_field else -1)
        yield document


def _against(votes: Votes, model: LabelModel, gold: NDArray[np.int64], num_labels: int) -> dict[str, Any]:
    """Accuracies on documents that have a gold label and a vote. Both ways answer on all of them: of equally many
    votes, majority vote takes the label that is the likelier before any vote."""
    judged = (gold >= 0) & (votes >= 0).any(1)
    told: dict[str, Any] = {"judged": int(judged.sum()), "gold": int((gold >= 0).sum())}
    if judged.any():
        right = gold[judged]
        shares = majority(votes[judged], num_labels) + 1e-9 * model.balance
        told["label_model"] = float((model.probabilities(votes[judged]).argmax(1) == right).mean())
        told["majority_vote"] = float((shares.argmax(1) == right).mean())
        told["most_frequent"] = float(np.bincount(right).max() / len(right))
    return told


def _tied(chances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows whose two best are alike."""
    best = np.sort(chances, axis=1)[:, -2:]
    return best[:, 1] - best[:, 0] < 1e-9
