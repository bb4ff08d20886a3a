"""Gate: is the answer in the documents at all? Said from what a search found, before any model is asked.

A logistic regression on figures of a search, fitted on questions of which it is known; the threshold is the one that
lets at most a stated share of the answerable ones go unanswered. `usual_gate` is one of those that come along: their
figures do not depend on how large a collection is, so that they hold for others than the one that they were fitted on
(experiments/not_in_documents.py). This module does not know how anything is searched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import ConfigError, DataError
from bloomery.retrieve.answers.citation import terms
from bloomery.retrieve.chunk import LEXICAL_SHARE, VECTOR, Hit, Retriever

_LEAST_OF_A_KIND = 10
_STRENGTH = 1e-2
_READ = 5
_USUAL = Path(__file__).with_name("usual_gates.json")


def _best(question: str, hits: Sequence[Hit]) -> float:
    return hits[0].score


def _lead(question: str, hits: Sequence[Hit]) -> float:
    return hits[0].score - float(np.mean([hit.score for hit in hits[1:]] or [0.0]))


def _coverage(question: str, hits: Sequence[Hit]) -> float:
    wanted = terms(question)
    there = set().union(*(terms(f"{hit.chunk.heading} {hit.chunk.text}") for hit in hits[:_READ]))
    return len(wanted & there) / len(wanted) if wanted else 0.0


def _cosines(hits: Sequence[Hit]) -> list[float]:
    return sorted((hit.scores[VECTOR] for hit in hits if VECTOR in hit.scores), reverse=True)


def _cosine(question: str, hits: Sequence[Hit]) -> float:
    return _cosines(hits)[0] if _cosines(hits) else math.nan


def _cosine_lead(question: str, hits: Sequence[Hit]) -> float:
    found = _cosines(hits)
    return found[0] - float(np.mean(found[1:] or [0.0])) if found else math.nan


def _words(question: str, hits: Sequence[Hit]) -> float:
    return max((hit.scores[LEXICAL_SHARE] for hit in hits if LEXICAL_SHARE in hit.scores), default=math.nan)


FIGURES: Mapping[str, Callable[[str, Sequence[Hit]], float]] = {
    "best_score": _best,
    "lead": _lead,
    "coverage": _coverage,
    "cosine": _cosine,
    "cosine_lead": _cosine_lead,
    "words": _words,
}
"""Of a question and what was found for it: the best score; its lead over the mean of the others; the share of the
question's terms that the first five chunks have; the best cosine; its lead; the best BM25 score as a share of the
highest that the question could have (only in an index of this machine)."""
OWN = ("best_score", "lead", "coverage")
"""What every search has. Scores of a fusion say little: they are held to the search's own."""


def figures_of(question: str, hits: Sequence[Hit], names: Sequence[str] = OWN) -> NDArray[np.float64]:
    """(F,) of a search; zeros where nothing was found, nan for a figure that its hits do not tell."""
    return np.array([FIGURES[name](question, hits) if hits else 0.0 for name in names], float)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Fitted for one retriever (its name) and `k`, for others have other scores; or, with neither, for all whose
    searches tell its figures, and whose cosines are of the `embedder` that it names."""

    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    offset: float
    threshold: float
    """Less probable answers are none."""
    figures: tuple[str, ...] = OWN
    """Names of FIGURES."""
    retriever: str = ""
    k: int = 0
    embedder: str = ""

    @classmethod
    def fit(
        cls,
        found: Sequence[tuple[str, Sequence[Hit]]],
        answerable: Sequence[bool],
        *,
        retriever: str = "",
        k: int = 0,
        embedder: str = "",
        figures: Sequence[str] = OWN,
        lost: float = 0.05,
    ) -> Gate:
        """From (question, hits) of dev questions and whether each is answerable. `lost` is the share of answerable
        ones that may go unanswered. DataError for fewer than ten of a kind, and for hits that do not tell a figure."""
        if not 0 <= lost < 1:
            raise ConfigError(f'"lost" is a share below 1, not {lost:g}')
        labels = np.array(answerable, bool)
        if len(labels) != len(found) or min(labels.sum(), (~labels).sum()) < _LEAST_OF_A_KIND:
            raise DataError(f"{int(labels.sum())} of {len(labels)} questions are answerable: too few of a kind")
        rows = np.array([figures_of(question, hits, figures) for question, hits in found])
        if np.isnan(rows).any():
            raise DataError(f"the searches do not tell one of {', '.join(figures)}")
        means, scales = rows.mean(0), rows.std(0)
        scales[scales < 1e-12] = 1.0
        weights, offset = _logistic((rows - means) / scales, labels)
        odds = (rows - means) / scales @ weights + offset
        # The lowest that leaves at most `lost` of the answerable below it.
        ordered = np.sort(1 / (1 + np.exp(-odds[labels])))
        threshold = float(ordered[min(len(ordered) - 1, math.floor(lost * len(ordered)))])
        numbers = {"means": means, "scales": scales, "weights": weights}
        named: dict[str, Any] = {name: tuple(map(float, one)) for name, one in numbers.items()}
        named |= {"figures": tuple(figures), "retriever": retriever, "k": k, "embedder": embedder}
        return cls(**named, offset=float(offset), threshold=threshold)

    def probability(self, question: str, hits: Sequence[Hit]) -> float | None:
        """That the documents answer; 0 where nothing was found, None where the hits do not tell a figure."""
        if not hits:
            return 0.0
        rows = (figures_of(question, hits, self.figures) - np.array(self.means)) / np.array(self.scales)
        odds = float(rows @ np.array(self.weights) + self.offset)
        return None if math.isnan(odds) else 1 / (1 + math.exp(-max(-500.0, min(500.0, odds))))

    def passes(self, question: str, hits: Sequence[Hit]) -> bool:
        """Whether it is worth asking a model; True where it cannot be told."""
        said = self.probability(question, hits)
        return bool(hits) and (said is None or said >= self.threshold)

    def require(self, retriever: str, k: int) -> None:
        """ConfigError where it was fitted for another search."""
        if self.retriever and (self.retriever, self.k) != (retriever, k):
            raise ConfigError(
                f"this gate is of {self.retriever} with k = {self.k}, not {retriever} with k = {k}", hint="fit it anew"
            )

    def to_dict(self) -> dict[str, Any]:
        return {name: list(one) if isinstance(one, tuple) else one for name, one in vars(self).items()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Gate:
        """DataError for what is no gate."""
        try:
            numbers: dict[str, Any] = {
                name: tuple(float(one) for one in told[name]) for name in ("means", "scales", "weights")
            }
            single: dict[str, Any] = {name: float(told[name]) for name in ("offset", "threshold")}
            names: dict[str, Any] = {name: str(told.get(name, "")) for name in ("retriever", "embedder")}
            read = tuple(str(one) for one in told.get("figures", OWN))
            made = cls(k=int(told.get("k", 0)), figures=read, **names, **numbers, **single)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"this is no gate: {type(error).__name__} {error}") from None
        if {len(one) for one in numbers.values()} != {len(read)} or 0.0 in made.scales or set(read) - set(FIGURES):
            raise DataError("this is no gate: its numbers do not fit together")
        return made

    def write(self, path: str | Path) -> None:
        """As JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> Gate:
        """DataError for a file that holds none."""
        try:
            told = json.loads(Path(path).read_bytes()[: 1 << 20])
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path} cannot be read as a gate: {error}") from None
        if not isinstance(told, dict):
            raise DataError(f"{path} is no gate")
        return cls.from_dict(told)


def usual_gates() -> list[Gate]:
    """Those that come along, the better ones first."""
    return [Gate.from_dict(one) for one in json.loads(_USUAL.read_bytes())]


def usual_gate(retriever: Retriever) -> Gate | None:
    """The first that fits how a retriever searches: by the vectors of an embedder that it knows, or by words. None
    where no gate does: a search by another embedder's vectors alone, an index of few chunks without vectors, a
    retriever of the caller's own."""
    searched: Any = getattr(retriever, "retriever", retriever)  # what a reranker puts in order
    mode = getattr(searched, "mode", None)
    if not callable(mode):
        return None
    way = mode()
    embedder = getattr(searched, "embedder", None)
    made_with = embedder.name if embedder is not None and way != "lexical" else ""
    tells = {"coverage", *(("cosine", "cosine_lead") if made_with else ())}
    if way != "vector" and getattr(searched, "tells_words", False):
        tells.add("words")
    for gate in usual_gates():
        if set(gate.figures) <= tells and gate.embedder in ("", made_with):
            return gate
    return None


def _logistic(rows: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Weights (F,) and offset of the least mean loss, both kinds counted alike, with a little L2 on the weights."""
    from scipy.optimize import minimize

    signs = np.where(labels, 1.0, -1.0)
    balance = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = signs * (rows @ values[:-1] + values[-1])
        slopes = -signs * balance / (1 + np.exp(np.clip(margins, -500, 500)))
        gradient = np.append(rows.T @ slopes + 2 * _STRENGTH * values[:-1], slopes.sum())
        return float(balance @ np.logaddexp(0, -margins) + _STRENGTH * values[:-1] @ values[:-1]), gradient

    found = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return found[:-1], float(found[-1])
