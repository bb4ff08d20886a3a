"""Scoring: free answers judged by scorers that a task names. This module does not know how models are asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError
from bloomery.evaluate.instructions import Instructions
from bloomery.evaluate.sample import Answered, Sample, Score, Scorer
from bloomery.evaluate.scorers import (
    Bleu,
    Choice,
    ChrF,
    Code,
    CorpusScorer,
    Exact,
    Numeric,
    Rouge,
    Similarity,
    Squad,
    add_scorer,
    make_scorer,
)
from bloomery.evaluate.tasks.task import Task
from bloomery.evaluate.tasks.task_judge import JUDGE


class Judging:
    """The scorers of a task's metrics, and how answers are found in what models write.

    A metric's table of options may name its `scorer` (else it is the metric's own name), a `pattern` that finds the
    answer and which match to `take`; the rest is what the scorer is made with.
    """

    def __init__(self, task: Task, *, judge: Scorer | None = None) -> None:
        """`judge` is the scorer of the metric "judge". ConfigError for scorers and patterns that are none."""
        self._task = task
        named = [name for name in task.measured if name != JUDGE or judge is not None]
        self._metrics = [(name, *self._made(name, judge)) for name in named]

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(name for name, *_ in self._metrics)

    def _made(self, metric: str, judge: Scorer | None) -> tuple[Scorer, re.Pattern[str] | None, str]:
        if metric == JUDGE and judge is not None:
            return judge, None, "last"
        options = dict(self._task.options.get(metric, {}))
        pattern, take = options.pop("pattern", self._task.answer_pattern), options.pop("take", "last")
        if take not in ("first", "last"):
            raise ConfigError(f'{self._task.name}: take is "first" or "last", not {take!r:.40}')
        try:
            compiled = re.compile(pattern) if pattern else None
        except (re.error, TypeError) as error:
            raise ConfigError(f"{self._task.name}: the pattern of {metric} is none: {error}") from None
        name = options.pop("scorer", metric)
        return make_scorer({"name": name, **options}, where=f"{self._task.name}.options.{metric}"), compiled, take

    def lacks(self, sample: Sample) -> str:
        """What a scorer needs of the sample, which it does not have; "" where it has all."""
        for name, scorer, *_ in self._metrics:
            for kind, needed in _NEEDED:
                if isinstance(scorer, kind) and not sample.metadata.get(needed):
                    return f"{needed}, which {name} judges answers by"
            blank = not any(target.strip() for target in sample.targets)  # to SQuAD's, an empty one is an answer
            if isinstance(scorer, _BY_TARGETS) and (blank if not isinstance(scorer, Squad) else not sample.targets):
                return f"right answer, which {name} compares with"
        return ""

    def corpus(self, samples: Sequence[Sample], texts: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Of metrics whose figure over all samples is not the mean of theirs: {"value", "signature"}, by metric."""
        found = {}
        for name, scorer, pattern, take in self._metrics:
            if isinstance(scorer, CorpusScorer):
                each = zip(samples, texts, strict=True)
                said = [Answered(sample_id=one.id, text=extracted(text, pattern, take)) for one, text in each]
                found[name] = scorer.corpus(samples, said)
        return found

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


@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """1 for an answer that is one of the targets, white space around both aside, as lm-evaluation-harness compares."""

    case: bool = True
    """Whether upper and lower case differ."""
    punctuation: bool = True
    """Whether ASCII's punctuation counts."""
    ignore: tuple[str, ...] = ()
    """Regular expressions of what is taken out of both first."""

    @property
    def name(self) -> str:
        return "exact_match"

    def score(self, sample: Sample, answered: Answered) -> Score:
        given = self._plain(answered.text)
        right = bool(given) and any(given == self._plain(target) for target in sample.targets)
        return Score(sample_id=sample.id, scorer=self.name, value=float(right), answer=given)

    def _plain(self, text: str) -> str:
        for pattern in self.ignore:
            text = re.sub(pattern, "", text)
        text = text if self.case else text.lower()
        text = text if self.punctuation else re.sub(r"[!-/:-@\[-`{-~]", "", text)
        return text.strip()


_NEEDED: tuple[tuple[type[Any], str], ...] = ((Code, "tests"), (Instructions, "instructions"))
_BY_TARGETS = (Bleu, Choice, ChrF, Exact, ExactMatch, Numeric, Rouge, Similarity, Squad)


add_scorer("instructions", lambda options: from_dict(Instructions, options))
add_scorer("exact_match", lambda options: from_dict(ExactMatch, options))
