"""Classic: a model of scikit-learn on words and characters, chosen on dev among kinds. It asks no language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.adapt.classic import ClassicConfig, fit_classic, load_classic
from bloomery.adapt.classic.estimators import Kind
from bloomery.adapt.comparison.answering import mean_of, scored
from bloomery.adapt.comparison.arm import Setting, Tried, Tuned
from bloomery.adapt.comparison.spending import Spending
from bloomery.core.errors import BloomeryError, DataError
from bloomery.evaluate.sample import Answered, Answerer

_KINDS: tuple[Kind, ...] = ("bayes", "logistic")
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
        best = -1.0
        notes: tuple[str, ...] = ()
        for kind in _KINDS:
            if tried and not spending.left:
                notes = (f"the budget ended the search before {kind}",)
                break
            try:
                fitted = fit_classic(
                    train, ClassicConfig(kind=kind, seed=setting.config.seed), left=lambda: spending.left
                )
            except DataError:
                if tried or kind != _KINDS[-1]:
                    continue
                raise
            answers: Sequence[Answered] = [fitted.answer(sample) for sample in setting.dev]
            scores = scored(setting.dev, answers, setting.scorer)
            score = mean_of(scores)
            tried.append(Tried(settings={"kind": kind}, score=score, scores=scores))
            if score > best:
                best = score
                fitted.save(folder / _FOLDER)
        if not tried:
            raise BloomeryError("no classic model could be fitted", hint="more training samples of each label")
        winner = max(tried, key=lambda one: one.score)
        labels = len(setting.train) + len(setting.dev)
        return Tuned(
            settings=winner.settings,
            dev_score=winner.score,
            dev_scores=winner.scores,
            labels_used=labels,
            tried=tuple(tried),
            notes=notes,
        )

    @contextmanager
    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> Iterator[Answerer]:
        yield load_classic(folder / _FOLDER)
