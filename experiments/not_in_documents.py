"""Is the answer in the documents at all? Gates chosen on dev questions, measured once on others; they are what `ask`
uses where nothing else is said.

Half of the documents that claims of SciFact cite are taken away: claims that lost all of theirs are unanswerable, by
construction, and stand beside claims that lost none. Searched is bloomery's own index, by words and MiniLM's vectors.
Which figures of a search a gate reads is chosen on training claims (that share a document with no test claim of the
other half), by the area under the curve of five-fold cross-validation; its threshold refuses at most --lost of the
answerable ones among them. Then the test claims are measured once, with Wilson's intervals, beside the best score
alone. The same gates go to every second query of Cranfield (the others were looked at while they were chosen): each as
it is, and with every document gone that is judged to answer it; and to the documents of SciFact, which are of another
subject. No model is asked: this is what is known before. Embedding takes one thread an hour.

    python experiments/not_in_documents.py [--home DIR]
    python experiments/not_in_documents.py --dev                # the choice alone; nothing is kept
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import PROJECT, keep, scratch_home, share_interval, shown
from hybrid_retrieval import EMBEDDER, Set, cranfield, scifact
from retrieval_training import claims

from bloomery.core.workspace import as_workspace
from bloomery.corpus.document import Document
from bloomery.retrieve import CutConfig, Index, IndexConfig, SearchConfig, index, open_index
from bloomery.retrieve.answers.gate import Gate, figures_of
from bloomery.retrieve.chunk import Hit
from bloomery.retrieve.embedding.opening import open_embedder
from bloomery.retrieve.learning import Judgements

K = 10
FOLDS = 5
CANDIDATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "hybrid": (
        ("cosine",),
        ("words",),
        ("cosine", "words"),
        ("cosine", "cosine_lead"),
        ("cosine", "cosine_lead", "words"),
    ),
    "vector": (("cosine",), ("cosine", "cosine_lead")),
    "lexical": (("words",), ("coverage",), ("words", "coverage")),
}
"""Figures that do not depend on how large a collection is, by how is searched."""
SIMPLER = 0.02
"""Of area, that further figures have to be worth: about its standard error on dev."""
READ_ALL = {"hybrid": {"cosine", "words"}}
"""What a gate reads in any case: these claims share their words with abstracts, and a question that does not is what
vectors are for."""
KEPT = PROJECT / "src" / "bloomery" / "retrieve" / "answers" / "usual_gates.json"
Asked = list[tuple[str, list[Hit]]]


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


def area_interval(scores: np.ndarray, labels: np.ndarray, *, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """The area with a 95% percentile interval, both kinds of question resampled."""
    rng, kinds = np.random.default_rng(seed), (np.flatnonzero(labels), np.flatnonzero(~labels))
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(kind, len(kind)) for kind in kinds])
        found.append(area(scores[drawn], labels[drawn]))
    low, high = np.percentile(found, [2.5, 97.5])
    return {"mean": area(scores, labels), "low": float(low), "high": float(high), "n": len(labels)}


def validated(found: Asked, labels: np.ndarray, figures: Sequence[str]) -> np.ndarray:
    """The probabilities on folds that a gate was not fitted on."""
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    said = np.zeros(len(labels))
    for number in range(FOLDS):
        inside = [one for one, at in zip(found, fold, strict=True) if at != number]
        gate = Gate.fit(inside, labels[fold != number].tolist(), figures=figures)
        for place in np.flatnonzero(fold == number):
            said[place] = gate.probability(*found[place])
    return said


def chosen(areas: Mapping[tuple[str, ...], float], mode: str) -> tuple[str, ...]:
    """The fewest figures whose area is about the best."""
    best = max(areas.values())
    near = (one for one in areas if areas[one] >= best - SIMPLER and READ_ALL.get(mode, set()) <= set(one))
    return min(near, key=lambda one: (len(one), -areas[one]))


def measured(said: np.ndarray, threshold: float, labels: np.ndarray) -> dict[str, Any]:
    """The area, and refusals of a threshold."""
    refused = said < threshold
    return {
        "area": area_interval(said, labels),
        "answerable_refused": share_interval(int(refused[labels].sum()), int(labels.sum())),
        "unanswerable_refused": share_interval(int(refused[~labels].sum()), int((~labels).sum())),
    }


def told(name: str, one: Mapping[str, Any]) -> None:
    parts = (shown(one[key], ".3f") for key in ("area", "answerable_refused", "unanswerable_refused"))
    print("{:34s} area {}; refused of answerable {}, of unanswerable {}".format(name, *parts), flush=True)


def made(name: str, documents: Sequence[Document], home: Path) -> Index:
    """The index of documents, whole abstracts as chunks."""
    config = IndexConfig(cut=CutConfig(method="whole"), embedder=EMBEDDER, precision="float16", id_field="_id")
    index(documents, into=name, config=config, workspace=home)
    # Queries are searched for in several ways: embedded once.
    return open_index(name, workspace=home, embedder=open_embedder(EMBEDDER, "", as_workspace(home)))


def searched(found: Index, mode: Any, queries: Sequence[str]) -> Asked:
    settings = SearchConfig(mode=mode)
    return [(text, found.search(text, K, settings=settings)) for text in queries]


def without_answers(found: Index, mode: Any, judged: Set, half: int) -> tuple[Asked, np.ndarray]:
    """Every second query as it is, and as if no document were there that is judged to answer it."""
    asked: Asked = []
    labels: list[bool] = []
    for query, text in list(judged[1].items())[half::2]:
        answers = {name for name, gain in judged[2].get(query, {}).items() if gain > 0}
        if answers:
            hits = found.search(text, K + len(answers), settings=SearchConfig(mode=mode))
            asked += [(text, hits[:K]), (text, [hit for hit in hits if hit.chunk.document_id not in answers][:K])]
            labels += [True, False]
    return asked, np.array(labels, bool)


def probabilities(gate: Gate, found: Asked) -> np.ndarray:
    return np.array([gate.probability(*one) for one in found], float)


def chosen_gates(
    found: Index, texts: Sequence[str], known: np.ndarray, lost: float
) -> tuple[dict[str, Gate], dict[str, dict[str, float]], dict[str, float]]:
    """By how is searched: a gate, the areas of all that were tried, and the threshold of the best score alone."""
    gates, tried, alone = {}, {}, {}
    for mode, candidates in CANDIDATES.items():
        dev = searched(found, mode, texts)
        said = {one: validated(dev, known, one) for one in candidates}
        areas = {one: area(values, known) for one, values in said.items()}
        tried[mode] = {" + ".join(one): value for one, value in areas.items()}
        names = chosen(areas, mode)
        embedder = found.embedder.name if found.embedder and any("cosine" in name for name in names) else ""
        gates[mode] = Gate.fit(dev, known.tolist(), figures=names, embedder=embedder, lost=lost)
        best = np.array([figures_of(*one, ("best_score",))[0] for one in dev])
        alone[mode] = float(np.sort(best[known])[int(lost * known.sum())])
        for one, values in said.items():
            refused = float((values[~known] < np.quantile(values[known], lost)).mean())
            mark = "  <-" * (one == names)
            print(f"{mode:8s} {' + '.join(one):44s} {areas[one]:.3f}, refuses {refused:.3f}{mark}", flush=True)
    return gates, tried, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    parser.add_argument("--lost", type=float, default=0.05, help="share of answerable questions that may be refused")
    parser.add_argument("--dev", action="store_true")
    given = parser.parse_args()
    train, test = claims("claims_train.csv"), claims("claims_validation.csv")
    cited = frozenset().union(*test.relevant.values())
    train = train.only([query for query, found in train.relevant.items() if not found & cited])
    gone, (dev, rest) = halves(train, test)
    documents = [one for one in scifact()[0] if one.metadata["_id"] not in gone]
    known, labels = (np.array([label for _, label in part], bool) for part in (dev, rest))
    with scratch_home(given.home) as home:
        found = made("half-of-scifact", documents, Path(home))
        gates, tried, alone = chosen_gates(found, [train.queries[query] for query, _ in dev], known, given.lost)
        other = made("cranfield", (judged := cranfield())[0], Path(home))
        if given.dev:
            for mode, gate in gates.items():
                elsewhere, answered = without_answers(other, mode, judged, 0)
                told(f"{mode}, Cranfield", measured(probabilities(gate, elsewhere), gate.threshold, answered))
            return
        result: dict[str, Any] = {"dev": len(dev), "test": len(rest), "documents": len(documents), "lost": given.lost}
        for mode, gate in gates.items():
            asked = searched(found, mode, [test.queries[query] for query, _ in rest])
            best = np.array([figures_of(*one, ("best_score",))[0] for one in asked])
            elsewhere, answered = without_answers(other, mode, judged, 1)
            result[mode] = {
                "figures": list(gate.figures),
                "tried": tried[mode],
                "gate": measured(probabilities(gate, asked), gate.threshold, labels),
                "best score": measured(best, alone[mode], labels),
                "gate, Cranfield": measured(probabilities(gate, elsewhere), gate.threshold, answered),
            }
            strange = searched(found, mode, list(judged[1].values())[1::2])
            refused = int((probabilities(gate, strange) < gate.threshold).sum())
            result[mode]["another subject"] = share_interval(refused, len(strange))
            print(f"{mode}, Cranfield's queries to SciFact: refused {shown(result[mode]['another subject'], '.3f')}")
            for name in ("gate", "best score", "gate, Cranfield"):
                told(f"{mode}, {name}", result[mode][name])
        found.close()
        other.close()
    usual = [gates[mode].to_dict() for mode in ("hybrid", "vector", "lexical")]
    KEPT.write_text(json.dumps(usual, indent=1) + "\n", encoding="utf-8")
    keep("not_in_documents", {**result, "gates": usual})


if __name__ == "__main__":
    main()
