"""Weak labels: labelling functions over a corpus, weighed against each other, and what came of each function.

The label model is fitted on the training split alone; gold labels are compared with, never learnt from. This module does
not know how labels become a corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.artifact import Artifact
from bloomery.corpus.annotation.label_functions import RuleSet, Votes
from bloomery.corpus.annotation.label_model import LabelModel, ModelName, fit_label_model, majority, summary
from bloomery.corpus.annotation.labelled import Label
from bloomery.corpus.document import Document
from bloomery.corpus.rows import field_of
from bloomery.corpus.shards import read_documents
from bloomery.corpus.split import SPLITS


@dataclass(frozen=True)
class WeakLabels:
    """`documents` and `votes` by split, the fitted model, and what came of it as plain data: `report`."""

    rules: RuleSet
    model: LabelModel
    documents: dict[str, list[Document]]
    votes: dict[str, Votes]
    report: dict[str, Any]

    def labels(self) -> dict[str, Label]:
        """By document id; only of documents of which a function said something. Of equally probable labels, none."""
        found: dict[str, Label] = {}
        for split, votes in self.votes.items():
            chances = self.model.probabilities(votes)
            for document, row, said in zip(self.documents[split], chances, (votes >= 0).any(1), strict=True):
                if said and not _tied(row):
                    best = int(row.argmax())
                    found[document.id] = Label(self.rules.question.labels[best], float(row[best]))
        return found


def weak_labels(
    corpus: Artifact, rules: RuleSet, *, name: ModelName = "accuracy", balance: Any = None, gold_field: str = ""
) -> WeakLabels:
    """Apply the functions to every split, fit on the training split. DataError if no function says anything there."""
    labels = rules.question.labels
    documents = {split: list(read_documents(corpus, split)) for split in SPLITS}
    votes = {split: rules.votes(listed) for split, listed in documents.items()}
    model = fit_label_model(votes["train"], len(labels), name=name, balance=balance)
    gold = {split: _gold(listed, gold_field, labels) for split, listed in documents.items()} if gold_field else None
    functions = summary(votes["train"], len(labels), gold["train"] if gold else None)
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
    }
    if gold:
        report["against_gold"] = {
            split: _against(votes[split], model, gold[split], len(labels)) for split in SPLITS if len(votes[split])
        }
    return WeakLabels(rules, model, documents, votes, report)


def _gold(documents: list[Document], field: str, labels: tuple[str, ...]) -> NDArray[np.int64]:
    places = {label: place for place, label in enumerate(labels)}
    return np.array([places.get(str(field_of(one.metadata, field)), -1) for one in documents], np.int64)


def _against(votes: Votes, model: LabelModel, gold: NDArray[np.int64], num_labels: int) -> dict[str, Any]:
    """Accuracies on documents that have a gold label and a vote. Both ways answer on all of them: of equally many votes,
    majority vote takes the label that is the likelier before any vote."""
    judged = (gold >= 0) & (votes >= 0).any(1)
    told: dict[str, Any] = {"judged": int(judged.sum()), "gold": int((gold >= 0).sum())}
    if judged.any():
        right = gold[judged]
        shares = majority(votes[judged], num_labels) + 1e-9 * model.balance
        told["label_model"] = float((model.probabilities(votes[judged]).argmax(1) == right).mean())
        told["majority_vote"] = float((shares.argmax(1) == right).mean())
        told["most_frequent"] = float(np.bincount(right).max() / len(right))
    return told


def _tied(row: NDArray[np.float64]) -> bool:
    best = np.sort(row)[-2:]
    return bool(best[1] - best[0] < 1e-9)
