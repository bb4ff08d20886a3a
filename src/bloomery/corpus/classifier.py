"""Classifier: the probability that a text is good, linear on hashed n-grams of words, learnt from labelled texts.

Weights are safetensors, everything else is JSON. Fitting needs scikit-learn, using one does not. This module does not
know rules or corpora.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import ConfigError, DataError, MissingExtraError
from bloomery.corpus.calibration import (
    Calibration,
    Method,
    calibration_error,
    folds,
    held_out_probabilities,
    reliability,
)
from bloomery.corpus.decontaminate import RunHasher

WEIGHTS_FILE, CONFIG_FILE = "classifier.safetensors", "classifier.json"
_WORD = re.compile(r"\w+")  # as those who have fitted one counted them
_BITS = 18
_SIZES = (1, 2)
_MOST_WORDS = 4000
_FOLDS = 5
_LEAST_EACH = 2 * _FOLDS


class _Features:
    """A text as (buckets, values): log(1 + count) of its n-grams in 2**bits buckets, of length 1."""

    def __init__(self, bits: int, sizes: Sequence[int]) -> None:
        self._shift = np.uint64(64 - bits)
        self._hashers = [RunHasher(size, halves=False) for size in sizes]

    def of(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        words = _WORD.findall(text.casefold())[:_MOST_WORDS]
        hashes = np.concatenate([hasher.hashes(words) for hasher in self._hashers])
        buckets, counts = np.unique((hashes >> self._shift).astype(np.int64), return_counts=True)
        values = np.log1p(counts)
        return buckets, values / (np.sqrt((values**2).sum()) or 1.0)


@dataclass(frozen=True)
class QualityClassifier:
    """`probability(text)` that a text is good; `measured` says how well it did on texts it was not fitted on."""

    weights: NDArray[np.float32]
    offset: float
    calibration: Calibration
    features: _Features
    measured: dict[str, Any]
    bits: int = _BITS
    sizes: tuple[int, ...] = _SIZES

    def score(self, text: str) -> float:
        """The linear score, before calibration."""
        buckets, values = self.features.of(text)
        return float(self.weights[buckets].astype(np.float64) @ values) + self.offset

    def probability(self, text: str) -> float:
        return float(self.calibration(np.array([self.score(text)]))[0])

    def save(self, folder: str | Path) -> None:
        """Write the weights and the rest into a folder, which is made."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"weight": self.weights}, folder / WEIGHTS_FILE)
        said = {"format": 1, "bits": self.bits, "sizes": list(self.sizes), "offset": self.offset}
        said |= {"calibration": self.calibration.to_dict(), "measured": self.measured}
        (folder / CONFIG_FILE).write_text(json.dumps(said, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> QualityClassifier:
        """ConfigError if there is none in the folder, DataError if it makes no sense."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder).expanduser()
        if not (folder / CONFIG_FILE).is_file():
            raise ConfigError(
                f"no classifier in {folder}", hint="bloomery curate LABELS --fit-classifier FOLDER makes one"
            )
        try:
            said = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS_FILE)["weight"]
            bits, sizes, curve = int(said["bits"]), tuple(map(int, said["sizes"])), said["calibration"]
            if weights.shape != (1 << bits,) or not sizes or not all(0 < size <= 16 for size in sizes):
                raise ValueError("weights and settings do not fit")
            calibration = Calibration(curve["method"], tuple(map(float, curve["x"])), tuple(map(float, curve["y"])))
            return cls(
                weights.astype(np.float32),
                float(said["offset"]),
                calibration,
                _Features(bits, sizes),
                said["measured"],
                bits,
                sizes,
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise DataError(f"{folder} is not a classifier: {error}", hint="fit it again") from error


def fit_classifier(
    texts: Iterable[str], labels: Sequence[bool], *, calibration: Method = "platt", strength: float = 10.0
) -> QualityClassifier:
    """Logistic regression on the texts with calibration on scores of texts that it was not fitted on (5 folds).

    `strength` is scikit-learn's C. What is measured (area under the curve, accuracy, calibration error, reliability) is
    of texts that neither the weights nor the calibration saw. ConfigError for too few labels of a kind.
    """
    try:
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "curate", "fitting a classifier") from error
    good = np.array(labels, bool)
    if min(good.sum(), (~good).sum()) < _LEAST_EACH:
        raise ConfigError(
            f"{int(good.sum())} good and {int((~good).sum())} bad texts are too few",
            hint=f"{_LEAST_EACH} of each or more",
        )
    features = _Features(_BITS, _SIZES)
    rows = [features.of(text) for text in texts]
    starts = np.cumsum([0, *(len(buckets) for buckets, _ in rows)])
    values, places = np.concatenate([v for _, v in rows]), np.concatenate([b for b, _ in rows])
    matrix = csr_matrix((values, places, starts), shape=(len(rows), 1 << _BITS))

    def fitted(which: NDArray[np.bool_]) -> Any:
        return LogisticRegression(C=strength, max_iter=1000, solver="liblinear", random_state=0).fit(
            matrix[which], good[which]
        )

    fold = folds(good, _FOLDS)
    scores = np.empty(len(good))
    for number in range(_FOLDS):
        scores[fold == number] = fitted(fold != number).decision_function(matrix[fold == number])
    held_out = held_out_probabilities(scores, good, fold, calibration)
    plain = 1 / (1 + np.exp(-scores))
    measured = {
        "texts": len(good),
        "good": int(good.sum()),
        "area_under_curve": float(roc_auc_score(good, scores)),
        "accuracy": float(((held_out >= 0.5) == good).mean()),
        "calibration_error": calibration_error(held_out, good),
        "calibration_error_before": calibration_error(plain, good),
        "reliability": reliability(held_out, good),
    }
    model = fitted(np.ones(len(good), bool))
    return QualityClassifier(
        model.coef_[0].astype(np.float32),
        float(model.intercept_[0]),
        Calibration.fit(scores, good, calibration),
        features,
        measured,
    )
