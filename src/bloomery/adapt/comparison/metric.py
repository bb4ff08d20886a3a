"""Metric: the scorer of a task by its name. This module does not know how scores are computed."""

from __future__ import annotations

from bloomery.core.errors import ConfigError, nearest
from bloomery.evaluate.sample import Answered, Sample, Score, Scorer


class Exact:
    """1 where the answer is one of the targets, but for case and white space around and within it."""

    name = "exact"

    def score(self, sample: Sample, answered: Answered) -> Score:
        plain = _plain(answered.text)
        right = bool(plain) and any(plain == _plain(target) for target in sample.targets)
        return Score(sample_id=sample.id, scorer=self.name, value=float(right), answer=answered.text.strip())


_SCORERS = {"exact": Exact}


def scorer_of(name: str) -> Scorer:
    """ConfigError for an unknown name."""
    if name not in _SCORERS:
        raise ConfigError(f'unknown metric "{name}"', hint=nearest(name, _SCORERS))
    return _SCORERS[name]()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
