"""The gate against scikit-learn's logistic regression, and its threshold against what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.retrieve.answers.gate import FIGURES, Gate, figures_of, usual_gate, usual_gates
from bloomery.retrieve.chunk import Chunk, Hit


def searched(rng: np.random.Generator, answerable: bool) -> tuple[str, list[Hit]]:
    best = rng.normal(2.0 if answerable else 1.0, 0.5)
    texts = ["iron furnace" if answerable and rng.random() < 0.8 else "other words", "something"]
    hits = [
        Hit(chunk=Chunk(id=str(n), document_id="d", text=text, start=0, end=len(text)), score=score)
        for n, (text, score) in enumerate(zip(texts, (best, best - rng.random()), strict=True))
    ]
    return "Where is the iron furnace?", hits


def dev(count: int = 200, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = [bool(n % 2) for n in range(count)]
    return [searched(rng, label) for label in labels], labels


def test_weights_equal_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    found, labels = dev()
    gate = Gate.fit(found, labels, retriever="r", k=2)
    rows = (np.array([figures_of(*one) for one in found]) - gate.means) / gate.scales
    # Its loss is a sum with L2 1/2 w.w / C, balanced weights that add up to N; ours a mean with .01 w.w.
    theirs = LogisticRegression(C=1 / (2 * 1e-2 * len(labels)), class_weight="balanced", tol=1e-10, max_iter=1000)
    theirs.fit(rows, labels)
    assert np.allclose(gate.weights, theirs.coef_[0], atol=1e-3)
    assert np.isclose(gate.offset, theirs.intercept_[0], atol=1e-3)
    assert np.isclose(gate.probability(*found[0]), np.asarray(theirs.predict_proba(rows[:1]))[0, 1], atol=1e-3)


@pytest.mark.parametrize("lost", [0.0, 0.05, 0.25])
def test_the_threshold_lets_go_what_it_may(lost: float):
    found, labels = dev()
    gate = Gate.fit(found, labels, retriever="r", k=2, lost=lost)
    passed = [gate.passes(*one) for one, label in zip(found, labels, strict=True) if label]
    assert passed.count(False) == lost * len(passed)
    refused = [not gate.passes(*one) for one, label in zip(found, labels, strict=True) if not label]
    assert sum(refused) > 0.3 * len(refused)


def test_nothing_found_is_no_answer():
    found, labels = dev()
    gate = Gate.fit(found, labels, retriever="r", k=2)
    assert gate.probability("Where?", []) == 0.0 and not gate.passes("Where?", [])
    assert figures_of("Where?", []).tolist() == [0, 0, 0]


def test_it_is_kept_as_json(tmp_path):
    found, labels = dev()
    gate = Gate.fit(found, labels, retriever="r", k=2)
    gate.write(tmp_path / "gate.json")
    assert Gate.read(tmp_path / "gate.json") == gate
    for text in ("", "[]", "{}", '{"means": [1]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError):
            Gate.read(tmp_path / "bad.json")
    with pytest.raises(DataError):
        Gate.read(tmp_path / "none.json")
    with pytest.raises(DataError, match="fit together"):
        Gate.from_dict({**gate.to_dict(), "weights": [1.0]})


def test_mistakes():
    found, labels = dev()
    with pytest.raises(DataError, match="too few"):
        Gate.fit(found[:10], labels[:10], retriever="r", k=2)
    with pytest.raises(ConfigError):
        Gate.fit(found, labels, retriever="r", k=2, lost=1.0)
    with pytest.raises(DataError, match="do not tell one of cosine"):
        Gate.fit(found, labels, figures=("cosine",))
    gate = Gate.fit(found, labels, retriever="r", k=2)
    gate.require("r", 2)
    with pytest.raises(ConfigError, match="this gate is of r with k = 2, not r with k = 3"):
        gate.require("r", 3)
    Gate.fit(found, labels).require("any", 7)
    with pytest.raises(DataError, match="fit together"):
        Gate.from_dict({**gate.to_dict(), "figures": ["best_score", "lead", "mood"]})


def told(*scores: dict[str, float]) -> list[Hit]:
    chunk = Chunk(id="a", document_id="d", text="iron furnace", start=0, end=12)
    return [Hit(chunk=chunk, score=1.0 - n, scores=one) for n, one in enumerate(scores)]


def test_figures_of_the_rankings():
    hits = told({"vector": 0.5, "lexical": 7.0, "lexical_share": 0.25}, {"vector": 0.8}, {"lexical_share": 0.5})
    names = ("cosine", "cosine_lead", "words", "best_score", "lead", "coverage")
    found = figures_of("an iron furnace of 1874", hits, names)
    assert found.tolist() == pytest.approx([0.8, 0.3, 0.5, 1.0, 1.0 - (0.0 - 1.0) / 2, 2 / 3])
    assert np.isnan(figures_of("x", told({"lexical": 7.0}), ("cosine", "cosine_lead", "words"))).all()
    gate = Gate(means=(0.0,), scales=(1.0,), weights=(1.0,), offset=0.0, threshold=0.9, figures=("cosine",))
    assert gate.probability("x", told({})) is None and gate.passes("x", told({}))  # nothing is known against it
    assert gate.probability("x", told({"vector": 0.0})) == 0.5 and not gate.passes("x", told({"vector": 0.0}))


def test_those_that_come_along_are_those_that_were_measured():
    result = Path(__file__).parents[4] / "experiments" / "results" / "not_in_documents.json"
    measured = json.loads(result.read_text(encoding="utf-8"))
    assert [one.to_dict() for one in usual_gates()] == measured["gates"]
    for gate in usual_gates():
        assert set(gate.figures) <= set(FIGURES) and 0 < gate.threshold < 1 and not gate.retriever
        assert any("cosine" in name for name in gate.figures) == bool(gate.embedder)
        weights = dict(zip(gate.figures, gate.weights, strict=True))
        assert all(weights.get(name, 1.0) > 0 for name in ("cosine", "words"))  # more of it: more likely an answer


class Searched:
    """How a retriever searches, and by what."""

    name, tells_words = "searched", True

    def __init__(self, way: str, embedder: str = "") -> None:
        self.way, self.embedder = way, type("E", (), {"name": embedder})() if embedder else None

    def mode(self) -> str:
        return self.way

    def search(self, query, k=10, filters=None):
        return []


def test_which_one_fits():
    known = next(gate.embedder for gate in usual_gates() if gate.embedder)

    def of(retriever) -> set[str] | None:
        found = usual_gate(retriever)
        return None if found is None else {*found.figures, *([found.embedder] if found.embedder else ())}

    words, vectors, both = of(Searched("lexical")), of(Searched("vector", known)), of(Searched("hybrid", known))
    assert words is not None and "cosine" not in words and known not in words
    assert vectors is not None and known in vectors and "words" not in vectors
    assert both is not None and known in both
    assert of(Searched("hybrid", "another-0123")) == words and of(Searched("lexical", known)) == words
    assert of(Searched("vector", "another-0123")) is None
    server = Searched("hybrid", known)
    server.tells_words = False
    assert of(server) == vectors
    reranked = type("R", (), {"retriever": Searched("lexical"), "name": "r"})()
    assert of(reranked) == words and of(type("Own", (), {"name": "own"})()) is None
