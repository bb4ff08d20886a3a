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
            spoken = (votes >= 0).any(1).tolist()
            for document, row, said in zip(self.documents[split], chances, spoken, strict=True):
                if said and not _tied(row):
                    best = int(row.argmax())
                    found[document.id] = Label(self.rules.question.labels[best], float(row[best]))
        return found

    def annotations(self) -> Iterator[tuple[Document, Annotation]]:
        """The labels as answers to the question, of the annotator "rules:" and a digest of the functions."""
        by_id = {one.id: one for listed in self.documents.values() for one in listed}
        name = f"rules:{self.rules.question.name}-{self.rules.digest[:8]}"
        names = self.rules.question.labels
        chances = {split: self.model.probabilities(votes) for split, votes in self.votes.items()}
        rows = {
            one.id: row
            for split, listed in self.documents.items()
            for one, row in zip(listed, chances[split], strict=True)
        }
        origin = digest([self.rules.digest, self.model.name, [f"{one:.9g}" for one in self.model.accuracies]])[:16]
        for item, label in self.labels().items():
            shares = {one: float(share) for one, share in zip(names, rows[item], strict=True)}
            detail = {"label_model": self.model.name, "functions": self.rules.digest}
            yield (
                by_id[item],
                Annotation(
                    item=item,
                    annotator=name,
                    kind="rules",
                    value=label.value,
                    origin=origin,
                    probabilities=shares,
                    detail=detail,
                ),
            )


def weak_labels(
    corpus: Artifact, rules: RuleSet, *, name: ModelName = "firing", balance: Any = None, gold_field: str = ""
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
        "worse_than_chance": [row["name"] for row in functions if (row["estimated_accuracy"] or 1.0) < 1 / len(labels)],
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


def _tied(row: NDArray[np.float64]) -> bool:
    best = np.sort(row)[-2:]
    return bool(best[1] - best[0] < 1e-9)
