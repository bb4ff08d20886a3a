"""Gate: is the answer in the documents at all? Said from what a search found, before any model is asked.

A logistic regression on three figures of a search (its best score, how far that stands above the rest, the share of
the question's words in what was found), fitted on questions of which it is known; the threshold is the one that lets at
most a stated share of the answerable ones go unanswered. Scores of reciprocal-rank fusion say little: they are ranks.
This module does not know how anything is searched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import ConfigError, DataError
from bloomery.retrieve.answers.citation import terms
from bloomery.retrieve.chunk import Hit

FIGURES = ("best_score", "lead", "coverage")
_LEAST_OF_A_KIND = 10
_STRENGTH = 1e-2
_READ = 5


def figures(question: str, hits: Sequence[Hit]) -> NDArray[np.float64]:
    """(3,) of a search: the best score, its lead over the mean of the others, and the share of the question's terms
    that the first five chunks have. Zeros where nothing was found."""
    if not hits:
        return np.zeros(len(FIGURES))
    scores = np.array([hit.score for hit in hits], float)
    wanted = terms(question)
    there = set().union(*(terms(f"{hit.chunk.heading} {hit.chunk.text}") for hit in hits[:_READ]))
    rest = float(scores[1:].mean()) if len(scores) > 1 else 0.0
    return np.array([scores[0], scores[0] - rest, len(wanted & there) / len(wanted) if wanted else 0.0])


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Fitted for one retriever (its name) and `k`: others have other scores."""

    retriever: str
    k: int
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    offset: float
    threshold: float
    """Less probable answers are none."""

    @classmethod
    def fit(
        cls,
        found: Sequence[tuple[str, Sequence[Hit]]],
        answerable: Sequence[bool],
        *,
        retriever: str,
        k: int,
        lost: float = 0.05,
    ) -> Gate:
        """From (question, hits) of dev questions and whether each is answerable. `lost` is the share of answerable
        ones that may go unanswered. DataError for fewer than ten of a kind."""
        if not 0 <= lost < 1:
            raise ConfigError(f'"lost" is a share below 1, not {lost:g}')
        labels = np.array(answerable, bool)
        if len(labels) != len(found) or min(labels.sum(), (~labels).sum()) < _LEAST_OF_A_KIND:
            raise DataError(f"{int(labels.sum())} of {len(labels)} questions are answerable: too few of a kind")
        rows = np.array([figures(question, hits) for question, hits in found])
        means, scales = rows.mean(0), rows.std(0)
        scales[scales < 1e-12] = 1.0
        weights, offset = _logistic((rows - means) / scales, labels)
        odds = (rows - means) / scales @ weights + offset
        # The lowest that leaves at most `lost` of the answerable below it.
        ordered = np.sort(1 / (1 + np.exp(-odds[labels])))
        threshold = float(ordered[min(len(ordered) - 1, math.floor(lost * len(ordered)))])
        numbers = {"means": means, "scales": scales, "weights": weights}
        named: dict[str, Any] = {name: tuple(map(float, one)) for name, one in numbers.items()}
        return cls(retriever=retriever, k=k, **named, offset=float(offset), threshold=threshold)

    def probability(self, question: str, hits: Sequence[Hit]) -> float:
        """That the documents answer; 0 where nothing was found."""
        if not hits:
            return 0.0
        rows = (figures(question, hits) - np.array(self.means)) / np.array(self.scales)
        odds = float(rows @ np.array(self.weights) + self.offset)
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, odds))))

    def passes(self, question: str, hits: Sequence[Hit]) -> bool:
        """Whether it is worth asking a model."""
        return bool(hits) and self.probability(question, hits) >= self.threshold

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
            made = cls(retriever=str(told["retriever"]), k=int(told["k"]), **numbers, **single)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is no gate: {type(error).__name__} {error}") from None
        if {len(one) for one in numbers.values()} != {len(FIGURES)} or 0.0 in made.scales:
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
