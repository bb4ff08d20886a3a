"""Exact: an answer that is one of the targets, once both are written alike; or that holds one.

This module does not know tasks.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import MAX_CHARACTERS, nothing, without_target

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True)
class Exact:
    """What counts as the same."""

    match: Literal["whole", "first_line", "start", "within"] = "whole"
    """The answer, its first line that is not empty, its beginning, or any whole words of it."""
    ignore_case: bool = True
    ignore_punctuation: bool = False
    """Of any script, symbols included."""
    unicode: bool = True
    """Compatible characters are one (NFKC): full-width digits, ligatures."""

    @property
    def name(self) -> str:
        settings = [] if self.match == "whole" else [self.match]
        settings += ["case"] if not self.ignore_case else []
        settings += ["no punctuation"] if self.ignore_punctuation else []
        return f"exact ({', '.join(settings)})" if settings else "exact"

    def written_alike(self, text: str) -> str:
        """White space is one space, at the ends none."""
        found = unicodedata.normalize("NFKC", text) if self.unicode else text
        if self.ignore_punctuation:
            found = "".join(" " if unicodedata.category(one)[0] in "PS" else one for one in found)
        found = _SPACE.sub(" ", found).strip()
        return found.casefold() if self.ignore_case else found

    def score(self, sample: Sample, answered: Answered) -> Score:
        if (worthless := nothing(self.name, sample, answered)) is not None:
            return worthless
        if not sample.targets:
            return without_target(self.name, sample)
        text = answered.text[:MAX_CHARACTERS].strip()
        answer = self.written_alike(text.splitlines()[0] if self.match == "first_line" else text)
        targets = [self.written_alike(target) for target in sample.targets]
        right = any(self._same(answer, target) for target in targets if target)
        return Score(sample_id=sample.id, scorer=self.name, value=float(right), answer=answer[:1000])

    def _same(self, answer: str, target: str) -> bool:
        if self.match == "start":
            return re.match(rf"{re.escape(target)}(?!\w)", answer) is not None
        if self.match == "within":
            return re.search(rf"(?<!\w){re.escape(target)}(?!\w)", answer) is not None
        return answer == target
