"""SQuAD: exact match and F1 over words, as the data set's own script has them.

Rajpurkar and others, arXiv 1606.05250: lower case, without punctuation, without a, an and the; the best over the
targets. An empty target is an answer of its own (SQuAD 2: there is none in the passage). This module does not know
passages.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import MAX_CHARACTERS, without_target

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class Squad:
    """`measure` "f1" counts common words, "exact" asks for all of them in order."""

    measure: Literal["f1", "exact"] = "f1"

    @property
    def name(self) -> str:
        return "f1" if self.measure == "f1" else "squad_exact"

    def score(self, sample: Sample, answered: Answered) -> Score:
        if answered.error:
            return Score(sample_id=sample.id, scorer=self.name, value=0.0, why=f"no answer: {answered.error}")
        if not sample.targets:
            return without_target(self.name, sample)
        text = answered.text[:MAX_CHARACTERS]
        worth = squad_f1 if self.measure == "f1" else squad_exact
        best = max(sample.targets, key=lambda target: worth(text, target))
        found = worth(text, best)
        return Score(sample_id=sample.id, scorer=self.name, value=found, answer=normalised(text)[:1000])


def normalised(text: str) -> str:
    """As the script writes answers alike before it compares them."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def squad_exact(answer: str, target: str) -> float:
    """1 or 0."""
    return float(normalised(answer) == normalised(target))


def squad_f1(answer: str, target: str) -> float:
    """Of the words, each as often as it occurs in both; with nothing on one side 1 if the other has nothing either."""
    said, wanted = normalised(answer).split(), normalised(target).split()
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))
