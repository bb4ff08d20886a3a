"""Scoring: free answers judged by scorers that a task names. This module does not know how models are asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
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
    """The scorers of a task's metrics, and how answers are found in what models write.

    A metric's table of options may name its `scorer` (else it is the metric's own name), a `pattern` that finds the
    answer and which match to `take`; the rest is what the scorer is made with.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._metrics = [(name, *self._made(name)) for name in task.measured]

    def _made(self, metric: str) -> tuple[Scorer, re.Pattern[str] | None, str]:
        options = dict(self._task.options.get(metric, {}))
        pattern, take = options.pop("pattern", self._task.answer_pattern), options.pop("take", "last")
        if take not in ("first", "last"):
            raise ConfigError(f'{self._task.name}: take is "first" or "last", not {take!r:.40}')
        try:
            compiled = re.compile(pattern) if pattern else None
        except (re.error, TypeError) as error:
            raise ConfigError(f"{self._task.name}: the pattern of {metric} is none: {error}") from None
        return scorer(options.pop("scorer", metric), options), compiled, take

    def scores(self, sample: Sample, answered: Answered) -> tuple[dict[str, float], dict[str, Any]]:
        """By metric, and what the scorers say beside it."""
        values: dict[str, float] = {}
        details: dict[str, Any] = {}
        for name, judge, pattern, take in self._metrics:
            found = replace(answered, text=extracted(answered.text, pattern, take))
            score = judge.score(sample, found)
            values[name] = score.value
            if score.answer or score.why or score.details:
                details[name] = {"answer": score.answer, "why": score.why, **score.details}
        return values, details


def extracted(text: str, pattern: re.Pattern[str] | None, take: str) -> str:
    """The answer within a text: a match of the pattern, its first group that matched; "" where there is none."""
    if pattern is None:
        return text
    found = list(pattern.finditer(text))
    if not found:
        return ""
    match = found[0] if take == "first" else found[-1]
    return next((group for group in match.groups() if group is not None), match[0]).strip()


class ExactMatch:
    """1 for an answer that is one of the targets, white space around both aside. `ignore` are regular expressions that
    are taken out of both first."""

    def __init__(self, *, case: bool = True, punctuation: bool = True, ignore: Sequence[str] = ()) -> None:
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
