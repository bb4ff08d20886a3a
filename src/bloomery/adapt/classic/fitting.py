"""Fitting: labelled samples into a classic model, its settings by cross-validation, its probabilities calibrated.

Settings are tried in a seeded order, the usual ones first, each on the same folds; samples that share a cluster share a
fold. The scores of folds that a fit has not seen choose the settings and fit the calibration, then all samples fit the
model (as scikit-learn's CalibratedClassifierCV does with ensemble=False). This module does not know files or tests.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bloomery.adapt.classic.estimators import Estimator, Kind, fit_estimator, fit_operations
from bloomery.adapt.classic.features import FeatureConfig, Features, count, fit_features
from bloomery.adapt.classic.model import ClassicModel
from bloomery.adapt.classic.probabilities import Floats, Method, Probabilities
from bloomery.adapt.making import Making
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter, NoMeter
from bloomery.evaluate.sample import Sample

_CHARACTER = 2e4
"""Operations that count for the n-grams of a character."""
Measure = Literal["log_loss", "accuracy", "average_precision"]
_WORDS = FeatureConfig()
_COUNTS = FeatureConfig(weighted=False)
_REDUCED = FeatureConfig(kind="reduced", words=(1, 1), characters=(3, 4), least_texts=2)
_TEXT: dict[Kind, tuple[FeatureConfig, ...]] = {
    "logistic": (_WORDS, replace(_WORDS, characters=()), replace(_WORDS, words=())),
    "bayes": (replace(_COUNTS, characters=()), replace(_COUNTS, characters=(), words=(1, 1)), _WORDS),
    "boosted": (_REDUCED,),
    "clusters": (_REDUCED,),
    "anomaly": (_REDUCED,),
}
_SETTINGS: dict[Kind, dict[str, tuple[Any, ...]]] = {
    "logistic": {"strength": (10.0, 1.0, 100.0, 0.1, 1000.0, 0.01), "even": (False, True)},
    "bayes": {"smoothing": (0.3, 1.0, 0.1, 3.0, 0.03), "complement": (False, True)},
    "boosted": {
        "learning_rate": (0.1, 0.05, 0.2),
        "leaves": (31, 7, 15),
        "least_rows": (20, 5, 50),
        "l2": (0.0, 1.0, 10.0),
        "rounds": (100, 50, 200),
    },
    "clusters": {"clusters": (16, 8, 32, 64, 128, 4)},
    "anomaly": {"clusters": (16, 8, 32, 64, 128, 4)},
}


@dataclass(frozen=True, kw_only=True)
class ClassicConfig:
    """Which classic model, and how much is tried."""

    kind: Kind = "logistic"
    """logistic: regression on n-grams; bayes: naive Bayes; boosted: gradient-boosted trees; clusters: the nearest of
    k-means' clusters and its labels; anomaly: how far from all clusters."""
    columns: tuple[str, ...] = ()
    """Metadata that are numbers, read instead of the text."""
    trials: int = 8
    """Settings tried at most; 1: the usual ones."""
    folds: int = 5
    """Of the cross-validation; fewer where a class has fewer samples."""
    measure: Measure = "log_loss"
    """By which settings are chosen, of held-out samples."""
    calibration: Method = "platt"
    price_per_label: float | None = None
    """Money for one label; without it the labels' cost is unknown."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in _SETTINGS:
            raise ConfigError(f"no classic model {self.kind!r:.40}", hint=", ".join(_SETTINGS))
        if not 1 <= self.trials <= 10_000 or not 2 <= self.folds <= 100:
            raise ConfigError('"trials" is 1 or more, "folds" from 2 to 100')
        if self.price_per_label is not None and not 0 <= self.price_per_label < 1e9:
            raise ConfigError(f'"price_per_label" is {self.price_per_label}, but should be 0 or more')


@dataclass(frozen=True)
class _Candidate:
    features: FeatureConfig
    settings: Mapping[str, Any]


def fit_classic(
    train: Sequence[Sample],
    config: ClassicConfig | None = None,
    *,
    left: Callable[[], bool] = lambda: True,
    meter: Meter | None = None,
    counted: Callable[[float], None] = lambda operations: None,
) -> ClassicModel:
    """A model fitted on labelled samples. `left` is asked before each trial but the first: when it says no, the best so
    far is taken. `counted` is told the operations of each fit (see `fit_operations`) and of reading the texts.
    DataError for samples without a label, or of one label alone."""
    config, meter = config or ClassicConfig(), meter or NoMeter()
    began, joules = time.perf_counter(), meter.read()
    names, labels = label_numbers(train)
    if config.measure == "average_precision" and len(names) != 2:
        raise ConfigError(f"average precision is of two labels, not of {len(names)}", hint='measure = "log_loss"')
    search = _Search(train, labels, len(names), config, counted)
    chosen, held_out, tried = search.best(left)
    features, rows = search.rows(chosen.features, None)
    estimator = search.fitted(rows, labels, chosen.settings)
    method = config.calibration if held_out is not None else "none"
    calibrated = Probabilities() if held_out is None else Probabilities.fit(held_out, labels, method)
    price = config.price_per_label
    making = Making(
        labels=len(train),
        seconds=time.perf_counter() - began,
        energy_joules=meter.read() - joules,
        labels_cost=Quantity.unknown() if price is None else Quantity.exact(price * len(train), "user"),
        fits=search.fits,
    )
    said = {"tried": tried, "measure": config.measure, "folds": search.folds, "calibration": method}
    return ClassicModel(
        labels=names, features=features, estimator=estimator, calibrated=calibrated, making=making, chosen=said
    )


def label_numbers(samples: Sequence[Sample]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Labels in order (that of the choices, where all samples share them), and (N,) the number of each sample's."""
    for sample in samples:
        if not sample.targets:
            raise DataError(f"sample {sample.id!r:.60} has no label", hint="a classic model learns from labels alone")
    found = {sample.targets[0] for sample in samples}
    if len(found) < 2:
        raise DataError(f"{len(samples):,} samples of {len(found)} label: there is nothing to tell apart")
    shared = samples[0].choices
    same = bool(shared) and all(sample.choices == shared for sample in samples)
    names = tuple(one for one in shared if one in found) if same else tuple(sorted(found))
    place = {name: number for number, name in enumerate(names)}
    return names, np.array([place[sample.targets[0]] for sample in samples], dtype=np.int64)


def fold_numbers(samples: Sequence[Sample], labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """(N,) the fold of each: every fold has its share of each label; clusters are never parted (then by chance)."""
    if any(sample.cluster for sample in samples):
        told = [f"{seed}\x1f{sample.cluster or sample.id}" for sample in samples]
        return np.array([int.from_bytes(hashlib.sha256(one.encode()).digest()[:8], "big") % folds for one in told])
    fold = np.empty(len(labels), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        inside = rng.permutation(np.flatnonzero(labels == label))
        fold[inside] = (np.arange(len(inside)) + int(label)) % folds
    return fold


def candidates(config: ClassicConfig) -> Iterator[_Candidate]:
    """The usual settings first, then all others in a seeded order."""
    if config.columns:
        scaled = config.kind not in ("boosted",)
        features = (FeatureConfig(kind="columns", columns=config.columns, scaled=scaled),)
        if config.kind == "bayes":
            raise ConfigError("naive Bayes counts words: it cannot read columns", hint='kind = "logistic" can')
    else:
        features = _TEXT[config.kind]
    grid = _SETTINGS[config.kind]
    every = [
        _Candidate(read, dict(zip(grid, values, strict=True)))
        for read in features
        for values in itertools.product(*grid.values())
        if not (config.kind == "bayes" and read.weighted and read.kind != "words")
    ]
    first, others = every[0], every[1:]
    random.Random(config.seed).shuffle(others)
    yield from [first, *others]


class _Search:
    """The folds, with the features of each kept: several settings read the same."""

    def __init__(
        self,
        train: Sequence[Sample],
        labels: NDArray[np.int64],
        classes: int,
        config: ClassicConfig,
        told: Callable[[float], None],
    ) -> None:
        self.labels, self.classes, self.config, self._told = labels, classes, config, told
        self.fits = 0
        rarest = int(np.bincount(labels, minlength=classes).min())
        self.folds = min(config.folds, rarest)
        self._fold = fold_numbers(train, labels, self.folds, config.seed) if self.folds > 1 else None
        if self._fold is not None and not self._sound(self._fold):
            self._fold, self.folds = None, 0
        self._train = train
        self._counted: dict[str, Any] = {}
        self._rows: tuple[FeatureConfig | None, dict[int | None, tuple[Features, Any]]] = (None, {})

    def _sound(self, fold: NDArray[np.int64]) -> bool:
        """Whether every label is outside and inside of every fold."""
        inside = [np.bincount(self.labels[fold == n], minlength=self.classes) for n in range(self.folds)]
        return all((np.bincount(self.labels, minlength=self.classes) > one).all() and one.sum() for one in inside)

    def fitted(self, rows: Any, labels: NDArray[np.int64], settings: Mapping[str, Any]) -> Estimator:
        """One fit, counted."""
        config = self.config
        self.fits += 1
        self._told(fit_operations(config.kind, rows, self.classes, settings))
        return fit_estimator(config.kind, rows, labels, self.classes, settings, seed=config.seed)

    def rows(self, features: FeatureConfig, fold: int | None) -> tuple[Features, Any]:
        """Of all samples, by features fitted without those of a fold."""
        if self._rows[0] != features:
            self._rows = (features, {})
        kept = self._rows[1]
        if fold not in kept:
            counted = self._count(features)
            seen = counted if fold is None or self._fold is None else counted[self._fold != fold]
            fitted = fit_features(seen, features, seed=self.config.seed)
            kept[fold] = (fitted, fitted.rows(counted))
        return kept[fold]

    def _count(self, features: FeatureConfig) -> Any:
        key = str((features.words, features.characters, features.columns))
        if key not in self._counted:
            self._counted[key] = count(self._train, features)
            if not features.columns:
                self._told(_CHARACTER * sum(len(one.input) for one in self._train))
        return self._counted[key]

    def best(self, left: Callable[[], bool]) -> tuple[_Candidate, Floats | None, list[dict[str, Any]]]:
        """The best settings, their held-out scores (N, 1 or C), and all that was tried. Without folds the usual ones,
        and None."""
        every = list(itertools.islice(candidates(self.config), self.config.trials))
        if self._fold is None:
            return every[0], None, []
        found: list[tuple[float, int, Floats]] = []
        # Those that read the same features go one after the other; which are tried does not depend on it.
        order = sorted(range(len(every)), key=lambda n: (str(every[n].features), n))
        order.sort(key=lambda n: n != 0 and every[n].features != every[0].features)
        for number in order:
            if found and not left():
                break
            scores = self._held_out(every[number])
            found.append((self._worth(scores), number, scores))
        _, number, scores = max(found, key=lambda one: (one[0], -one[1]))
        tried = [
            {"settings": dict(every[n].settings), "features": to_dict(every[n].features), self.config.measure: worth}
            for worth, n, _ in found
        ]
        return every[number], scores, tried

    def _held_out(self, candidate: _Candidate) -> Floats:
        assert self._fold is not None
        columns = 1 if self.classes == 2 else self.classes
        scores = np.empty((len(self.labels), columns))
        for fold in range(self.folds):
            _, rows = self.rows(candidate.features, fold)
            inside = self._fold == fold
            scores[inside] = self.fitted(rows[~inside], self.labels[~inside], candidate.settings).scores(rows[inside])
        return scores

    def _worth(self, scores: Floats) -> float:
        """Higher is better. Log loss is that of calibrated probabilities: the model is used with them."""
        if self.config.measure == "average_precision":
            from sklearn.metrics import average_precision_score

            return float(average_precision_score(self.labels, scores[:, 0]))
        method = self.config.calibration
        probabilities = Probabilities.fit(scores, self.labels, method)(scores)
        if self.config.measure == "accuracy":
            return float((probabilities.argmax(1) == self.labels).mean())
        right = probabilities[np.arange(len(self.labels)), self.labels]
        return float(np.log(np.maximum(right, 1e-12)).mean())
