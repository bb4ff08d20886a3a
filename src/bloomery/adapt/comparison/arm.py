"""Arm: a way to come from samples to an answerer, tuned within a budget, frozen, and opened again from what was frozen.

    tuned = arm.tune(setting, spending, folder)        # sees train and dev, never the test
    with arm.opened(setting, tuned.settings, folder) as answerer: ...

What `tune` leaves (its settings and the files in its folder) is all that `opened` needs: the winner is rebuilt from it
alone. This module does not know any arm, nor the test.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bloomery.adapt.classic.label_curve import nested
from bloomery.adapt.comparison.models import OpenModel
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.comparison.task import TaskConfig
from bloomery.core.answer_cache import AnswerCache
from bloomery.core.errors import DataError
from bloomery.core.spent import Spent
from bloomery.core.workspace import Workspace
from bloomery.evaluate.sample import Answerer, Sample, Scorer


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every arm is given: the same samples, the same model, the same scorer, the same seed."""

    config: TaskConfig
    train: Sequence[Sample]
    dev: Sequence[Sample]
    scorer: Scorer
    workspace: Workspace
    model: OpenModel | None = None
    """The model, its answers kept; None for arms that need none."""
    cache: AnswerCache | None = None
    """Where answers of models that an arm makes are kept."""
    fresh: bool = False
    """Nothing that was kept is taken."""
    told: str = ""
    """Of a judge at an endpoint: what its marks are kept under, for people."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The choices that every question shares; without them the distinct targets of train, if every question has
        one and they recur: ten questions and more for each on average. Otherwise none: answers are free."""
        if self.config.choices:
            return self.config.choices
        if self.config.choices_column or any(len(one.targets) != 1 for one in self.train):
            return ()
        found = sorted({one.targets[0] for one in self.train})
        return tuple(found) if len(found) >= 2 and len(found) * 10 <= len(self.train) else ()


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way that was tried on dev, and what it was worth there."""

    settings: Mapping[str, Any]
    score: float
    """The metric's mean over dev."""
    dev_tokens: int = 0
    """What its answers took."""
    scores: tuple[float, ...] = ()
    """Of each question of dev, in its order; fewer where the budget cut it short."""


@dataclass(frozen=True)
class CurveStep:
    """A point of a learning curve in labels."""

    labels: int
    """Of train, that were learnt from."""
    score: float
    """The metric's mean over dev."""


_CURVE_SHARES = (0.25, 0.5)
_CURVE_LEAST = 16


def curve_parts(train: Sequence[Sample], seed: int) -> list[list[Sample]]:
    """A quarter and half of train, one within the other, each label with its share; none where there is too little."""
    try:
        ordered = nested(train, seed)
    except DataError:  # a label that is there only once, or none: answers are free
        ordered = [one for one in train if one.targets]
        random.Random(seed).shuffle(ordered)
    sizes = [round(share * len(ordered)) for share in _CURVE_SHARES]
    return [ordered[:size] for size in sizes if size >= _CURVE_LEAST]


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What tuning froze."""

    settings: Mapping[str, Any]
    """JSON data: with the files of the arm's folder, all that rebuilds it."""
    dev_score: float
    dev_scores: tuple[float, ...]
    """The same, question by question."""
    labels_used: int
    """Labels of train and dev that it needed; priced."""
    tried: tuple[Tried, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What the reader should know: a search that the budget ended, for example."""
    curve: tuple[CurveStep, ...] = ()
    """Of arms that learn: what fewer labels are worth, the fewest first; within the same budget."""
    made: Spent | None = None
    """What making it took, where more was spent: a curve is for the reader. None: all."""


class Arm(Protocol):
    """Stateless: everything is in what it is given."""

    @property
    def name(self) -> str: ...

    @property
    def asks(self) -> bool:
        """Whether it needs a model; then there is one of it for each."""
        ...

    def unfit(self, setting: Setting) -> str:
        """Why it cannot take part, in a sentence; "" where it can."""
        ...

    def tune(self, setting: Setting, spending: Spending, folder: Path) -> Tuned:
        """Choose on dev, within the budget; files that are needed later go into the folder."""
        ...

    def opened(self, setting: Setting, settings: Mapping[str, Any], folder: Path) -> AbstractContextManager[Answerer]:
        """The frozen answerer; closed afterwards."""
        ...
