"""Is the answer in the documents at all? A gate fitted on dev questions, measured on others; on SciFact.

Half of the claims lose every document that they cite: these are unanswerable, by construction. A gate is fitted on the
training claims and measured on the test claims (that share a document with no training claim of the other half), beside
the best score alone. Told: what share of answerable and of unanswerable claims is refused (Wilson's intervals), and the
area under the curve. No model is asked: this is what is known before. Minutes of one thread.

    python experiments/not_in_documents.py
    python experiments/not_in_documents.py --vectors FOLDER   # where retrieval_training.py --home kept before.npy
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import keep, share_interval, shown
from retrieval_training import MAX_LENGTH, Bm25, claims, minilm

from bloomery.retrieve.answers.gate import FIGURES, Gate, figures
from bloomery.retrieve.chunk import Chunk, Filters, Hit
from bloomery.retrieve.learning import Judgements

K = 10
LOST = 0.1
"""Share of answerable dev questions that may be refused."""


class Vectors:
    """Cosines of MiniLM's vectors, those of the passages made before."""

    name = "MiniLM"

    def __init__(self, passages: Mapping[str, str], names: Sequence[str], vectors: np.ndarray) -> None:
        from dataclasses import replace

        from bloomery.engine.loading import load_text_encoder

        here = [n for n, name in enumerate(names) if name in passages]
        self.passages, self.names, self.vectors = passages, [names[n] for n in here], vectors[here]
        self.model = load_text_encoder(minilm(), device="cpu")
        self.model.pooling = replace(self.model.pooling, max_length=MAX_LENGTH)

    def search(self, query: str, k: int = 10, filters: Filters | None = None) -> list[Hit]:
        scores = self.vectors @ self.model.embed(query)[0]
        made = []
        for n in np.argsort(-scores)[:k].tolist():
            text = self.passages[self.names[n]]
            chunk = Chunk(id=self.names[n], document_id=self.names[n], text=text, start=0, end=len(text))
            made.append(Hit(chunk=chunk, score=float(scores[n])))
        return made


def halves(*parts: Judgements) -> tuple[set[str], list[list[tuple[str, bool]]]]:
    """(documents taken away, for each part its claims with whether they are still answerable). Claims that lost some
    of their documents and kept others are neither."""
    every = sorted({name for part in parts for found in part.relevant.values() for name in found})
    gone = set(np.random.default_rng(0).permutation(every)[: len(every) // 2].tolist())
    labelled = [
        [
            (query, not found & gone)
            for query, found in sorted(part.relevant.items())
            if found <= gone or not found & gone
        ]
        for part in parts
    ]
    return gone, labelled


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    """Under the receiver's curve: how often an answerable question has the higher score (ties count half)."""
    differences = scores[labels][:, None] - scores[~labels][None, :]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


def measured(name: str, said: np.ndarray, threshold: float, labels: np.ndarray) -> dict[str, Any]:
    """Refusals of a threshold on test questions."""
    refused = said < threshold
    told = {
        "area": area(said, labels),
        "answerable_refused": share_interval(int(refused[labels].sum()), int(labels.sum())),
        "unanswerable_refused": share_interval(int(refused[~labels].sum()), int((~labels).sum())),
    }
    both = (shown(told[key], ".3f") for key in ("answerable_refused", "unanswerable_refused"))
    print(f"{name:24s} area {told['area']:.3f}; refused of answerable {next(both)}, of unanswerable {next(both)}")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", default="")
    asked = parser.parse_args()
    train, test = claims("claims_train.csv"), claims("claims_validation.csv")
    cited = frozenset().union(*test.relevant.values())
    train = train.only([query for query, found in train.relevant.items() if not found & cited])
    gone, (dev, rest) = halves(train, test)
    passages = {name: text for name, text in train.passages.items() if name not in gone}
    retrievers: list[Any] = [Bm25(passages)]
    if asked.vectors:
        vectors = np.load(Path(asked.vectors) / "before.npy")
        retrievers.append(Vectors(passages, list(train.passages), vectors))
    result: dict[str, Any] = {"dev": len(dev), "test": len(rest), "documents": len(passages), "lost": LOST}
    for retriever in retrievers:
        found = [(train.queries[query], retriever.search(train.queries[query], K)) for query, _ in dev]
        asked_of = [(test.queries[query], retriever.search(test.queries[query], K)) for query, _ in rest]
        known, labels = (np.array([label for _, label in part], bool) for part in (dev, rest))
        gate = Gate.fit(found, known.tolist(), retriever=retriever.name, k=K, lost=LOST)
        said = np.array([gate.probability(*one) for one in asked_of])
        best = np.array([figures(*one)[0] for one in asked_of])
        alone = float(np.quantile([figures(*one)[0] for one, label in zip(found, known, strict=True) if label], LOST))
        result[retriever.name] = {
            "gate": measured(f"{retriever.name}, gate", said, gate.threshold, labels),
            "best score": measured(f"{retriever.name}, best score", best, alone, labels),
            "weights": dict(zip(FIGURES, gate.weights, strict=True)),
        }
    keep("not_in_documents", result)


if __name__ == "__main__":
    main()
