"""Classic: a model of scikit-learn, chosen on dev among kinds: naive Bayes, logistic regression, k-means' clusters,
gradient-boosted trees; on words and characters, or on columns of numbers. It asks no language model.

With budget left a learning curve is drawn: the kind that was chosen, with a quarter and half of the labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.adapt.classic import ClassicConfig, ClassicModel, fit_classic, load_classic
from bloomery.adapt.classic.estimators import Kind
from bloomery.adapt.comparison.answering import mean_of, scored
from bloomery.adapt.comparison.arm import CurveStep, Setting, Tried, Tuned, curve_parts
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.comparison.work import counted
from bloomery.core.errors import DataError
from bloomery.evaluate.sample import Answerer, Sample

_KINDS: Mapping[Kind, int] = {"bayes": 8, "logistic": 8, "clusters": 3, "boosted": 3}
"""Those that are tried, the cheapest first of about equals, and settings of each at most."""
BOOSTED_LEAST = 200
"""Labels that trees are grown on: their leaves hold twenty each."""
_FOLDER = "model"


class ClassicArm:
    """See the module."""

    name = "classic"
    asks = False

    def unfit(self, setting: Setting) -> str:
        if len(setting.labels) < 2:
            return "a classic model knows labels only; these answers are free texts, or choices of each question's own"
        return ""

    def tune(self, setting: Setting, spending: Spending, folder: Path) -> Tuned:
        train = [replace(sample, choices=setting.labels) for sample in setting.train]
        tried: list[Tried] = []
        notes: list[str] = []
        best, missing = -1.0, ""
        for kind in kinds_for(setting, notes):
            if tried and not spending.left:
                notes.append(f"the budget ended the search before {kind}")
                break
            try:
                fitted = fitted_on(train, kind, setting, spending)
            except DataError as error:
                missing = missing or error.one_line()
                continue
            scores = self._on_dev(setting, fitted)
            tried.append(Tried(settings={"kind": kind}, score=mean_of(scores), scores=scores))
            if mean_of(scores) > best:
                best = mean_of(scores)
                fitted.save(folder / _FOLDER)
        if not tried:
            raise DataError(f"no classic model could be fitted: {missing}", hint="more training samples of each label")
        winner = max(tried, key=lambda one: one.score)
        made = spending.spent
        curve = self._curve(train, winner.settings["kind"], setting, spending)
        return Tuned(
            settings=winner.settings,
            dev_score=winner.score,
            dev_scores=winner.scores,
            labels_used=len(setting.train) + len(setting.dev),
            tried=tuple(tried),
            notes=tuple(notes),
            curve=(*curve, CurveStep(len(train), winner.score)) if curve else (),
            made=made,
        )

    def _on_dev(self, setting: Setting, fitted: ClassicModel) -> tuple[float, ...]:
        return scored(setting.dev, [fitted.answer(sample) for sample in setting.dev], setting.scorer)

    def _curve(
        self, train: Sequence[Sample], kind: Kind, setting: Setting, spending: Spending
    ) -> tuple[CurveStep, ...]:
        found = []
        for part in curve_parts(train, setting.config.seed):
            if not spending.left:
                break
            try:
                fitted = fitted_on(part, kind, setting, spending)
            except DataError:  # a label that is not among so few
                break
            found.append(CurveStep(len(part), mean_of(self._on_dev(setting, fitted))))
        return tuple(found)

    @contextmanager
    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> Iterator[Answerer]:
        yield load_classic(folder / _FOLDER)


def kinds_for(setting: Setting, notes: list[str]) -> list[Kind]:
    """Those that fit the data; `notes` are told why others do not."""
    kinds: list[Kind] = list(_KINDS)
    if setting.config.columns:
        kinds.remove("bayes")
        notes.append("naive Bayes counts words: it reads no columns")
    if len(setting.train) < BOOSTED_LEAST:
        kinds.remove("boosted")
        notes.append(f"boosted trees want {BOOSTED_LEAST} labels, train has {len(setting.train)}")
    return kinds


def fitted_on(train: Sequence[Sample], kind: Kind, setting: Setting, spending: Spending) -> ClassicModel:
    """One kind with settings by cross-validation, counted. DataError where there is too little of a label."""
    config = ClassicConfig(kind=kind, columns=setting.config.columns, trials=_KINDS[kind], seed=setting.config.seed)
    return fit_classic(
        train, config, left=lambda: spending.left, counted=lambda operations: spending.add(counted(operations))
    )
