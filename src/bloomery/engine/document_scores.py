"""Document scores: the probability of one label for each document, by any model here that classifies texts.

The file that this writes is what a corpus's rule "score" reads, so that the floor of corpora knows no models. A model's
probabilities seldom mean what they say (Guo et al. 2017, arXiv:1706.04599): with labelled texts that it did not learn
from they are calibrated. This module does not know rules.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.corpus import Document
from bloomery.corpus.calibration import Calibration, calibration_error, folds, held_out_probabilities

_LEAST_OF_A_KIND = 10
_MOST_LOG_ODDS = 50.0
_FOLDS = 5


def calibrate(
    model: Any, labelled: Iterable[tuple[str, bool]], *, label: str = ""
) -> tuple[Calibration, dict[str, float]]:
    """Platt's sigmoid from the log-odds that the model gives the label to the share of texts that are good, and
    figures: texts, good, the expected calibration error before and, each fifth by a sigmoid of the others, after.

    `labelled` are (text, whether it is good) that the model did not learn from. DataError for fewer than 10 of a kind.
    """
    labelled = [(text, good) for text, good in labelled if text.strip()]
    labels = np.array([good for _, good in labelled], bool)
    if min(labels.sum(), (~labels).sum()) < _LEAST_OF_A_KIND:
        raise DataError(f"{int(labels.sum())} of {len(labels)} labels are good: too few of a kind to calibrate by")
    probability = _probabilities(model, label)
    said = np.array([probability(text) for text, _ in labelled])
    odds = _log_odds(said)
    after = held_out_probabilities(odds, labels, folds(labels, _FOLDS))
    figures = {
        "texts": len(labels),
        "good": int(labels.sum()),
        "calibration_error_before": calibration_error(said, labels),
        "calibration_error": calibration_error(after, labels),
    }
    return Calibration.fit(odds, labels), figures


def score_documents(
    model: Any,
    documents: Iterable[Document],
    path: str | Path,
    *,
    label: str = "",
    calibration: Calibration | None = None,
    told: Callable[[int], None] = lambda count: None,
) -> int:
    """Write {id, score} of every document that is not blank as JSONL; how many there were.

    `model` is what `load` gives of a classifier; `label` the class whose probability is the score, "" the last one;
    `calibration` what `calibrate` gave; `told` hears how many there are so far. The file is whole or not there.
    ConfigError for a model that does not classify texts, or has no such label.
    """
    probability = _probabilities(model, label)
    path = Path(path)
    part = path.with_name(path.name + ".part")
    count = 0
    with part.open("w", encoding="utf-8") as stream:
        for document in documents:
            if not document.text.strip():
                continue
            score = probability(document.text)
            if calibration is not None:
                score = float(calibration(_log_odds(np.array([score])))[0])
            stream.write(json.dumps({"id": document.id, "score": score}) + "\n")
            count += 1
            told(count)
    part.replace(path)
    return count


def _probabilities(model: Any, label: str) -> Callable[[str], float]:
    """What the model says of a text: the probability of the label."""
    if not callable(getattr(model, "classify", None)):
        raise ConfigError(f"{model.name} does not classify texts", hint="bloomery train --set train.objective=classes")
    column = -1

    def probability(text: str) -> float:
        nonlocal column
        found = sorted(model.classify(text, top=1 << 20), key=lambda one: one.id)
        if column < 0:
            column = _column([one.text for one in found], label)
        return math.exp(found[column].logprob)

    return probability


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        odds = np.log(probabilities) - np.log1p(-np.minimum(probabilities, 1.0))
    return np.clip(odds, -_MOST_LOG_ODDS, _MOST_LOG_ODDS)


def _column(labels: list[str], label: str) -> int:
    if not label:
        return len(labels) - 1
    if label not in labels:
        raise ConfigError(f'the model has no label "{label}"', hint=nearest(label, labels))
    return labels.index(label)
