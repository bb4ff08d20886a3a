"""Scoring: free answers judged by scorers that a task names. This module does not know how models are asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from bloomery.core.errors import ConfigError, nearest
from bloomery.evaluate.sample import Answered, Sample, Score, Scorer
from bloomery.evaluate.tasks.task import Task

_SCORERS: dict[str, Callable[..., Scorer]] = {}


def register(name: str, make: Callable[..., Scorer]) -> None:
    """Make a scorer known to tasks: `make(**options)` gives one."""
    _SCORERS[name] = make


def scorer(name: str, options: Mapping[str, Any] | None = None) -> Scorer:
    """The scorer of that name. ConfigError, with the nearest, if there is none, or for options that it has not."""
    if name not in _SCORERS:
        raise ConfigError(f"no scorer {name!r:.60}", hint=nearest(name, _SCORERS))
    try:
        return _SCORERS[name](**(options or {}))
    except TypeError as error:
        raise ConfigError(f"scorer {name}: {error}") from None


class Judging:
    """The scorers of a task, and how its answers are found in what models write."""

    def __init__(self, task: Task) -> None:
        self._scorers = [(name, scorer(name, task.options.get(name))) for name in task.measured]
        try:
            self._pattern = re.compile(task.answer_pattern) if task.answer_pattern else None
        except re.error as error:
            raise ConfigError(f"{task.name}: answer_pattern is none: {error}") from None

    def extracted(self, text: str) -> str:
        """The answer within a text: the pattern's last match; the text itself without white space around it."""
        if self._pattern is None:
            return text
        *_, last = [None, *self._pattern.finditer(text)]
        if last is None:
            return ""
        return next((group for group in last.groups() if group is not None), last[0])

    def scores(self, sample: Sample, answered: Answered) -> tuple[dict[str, float], dict[str, Any]]:
        """By metric, and what the scorers say beside it."""
        each: list[tuple[str, Score]] = [(name, one.score(sample, answered)) for name, one in self._scorers]
        details = {name: {"answer": s.answer, "why": s.why, **s.details} for name, s in each if s.answer or s.why}
        return {name: score.value for name, score in each}, details


class ExactMatch:
    """1 for an answer that is one of the targets, white space around both aside. `ignore` are regular expressions that
    are taken out of both first."""

    def __init__(self, *, case: bool = True, punctuation: bool = True, ignore: tuple[str, ...] = ()) -> None:
        self._case, self._punctuation = case, punctuation
        self._ignore = [re.compile(one) for one in ignore]

    @property
    def name(self) -> str:
        return "exact_match"

    def score(self, sample: Sample, answered: Answered) -> Score:
        given = self._plain(answered.text)
        right = bool(given) and any(given == self._plain(target) for target in sample.targets)
        return Score(sample_id=sample.id, scorer=self.name, value=float(right), answer=given)

    def _plain(self, text: str) -> str:
        for pattern in self._ignore:
            text = pattern.sub("", text)
        text = text if self._case else text.lower()
        text = text if self._punctuation else re.sub(r"[!-/:-@\[-`{-~]", "", text)
        return text.strip()


register("exact_match", ExactMatch)
