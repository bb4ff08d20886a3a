"""Numeric: the number that an answer ends with, against that of the target, as GSM8K is scored.

Cobbe and others, arXiv 2110.14168: the target is what stands after "####". In an answer that, a "\\boxed{}", or a
sentence that announces the answer counts before the last number. This module does not know units or currencies: it
passes over them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, DecimalException

from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import MAX_CHARACTERS, nothing, without_target

_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:\s?/\s?\d+(?:\.\d+)?)?|"
    r"(?<![\w.])[-+]?\.\d+"
)
_MARKS = (re.compile(r"####"), re.compile(r"\\boxed\{"), re.compile(r"\banswer\b(?:\s+is)?|\bAntwort\b", re.IGNORECASE))
_BETWEEN = 120
"""Characters between a mark and the number that it announces."""


@dataclass(frozen=True, kw_only=True)
class Numeric:
    """Equal within `tolerance`, a share of the target; 0: equal."""

    tolerance: float = 0.0

    @property
    def name(self) -> str:
        return f"numeric (within {self.tolerance:g})" if self.tolerance else "numeric"

    def score(self, sample: Sample, answered: Answered) -> Score:
        if (worthless := nothing(self.name, sample, answered)) is not None:
            return worthless
        targets = [number for target in sample.targets if (number := find_number(target)) is not None]
        if not targets:
            return without_target(self.name, sample)
        found = find_number(answered.text)
        if found is None:
            return Score(sample_id=sample.id, scorer=self.name, value=0.0, why="no number in the answer")
        near = Decimal(repr(self.tolerance))
        right = any(abs(found - target) <= near * abs(target) for target in targets)
        return Score(sample_id=sample.id, scorer=self.name, value=float(right), answer=str(found))


def find_number(text: str) -> Decimal | None:
    """The number that a text ends with, or announces; thousands by comma, fractions computed. None where there is
    none."""
    text = (
        unicodedata.normalize("NFKC", text[-MAX_CHARACTERS:]).replace("−", "-").replace("\\,", "").replace("{,}", ",")
    )
    text = re.sub(r"\\d?frac\{(-?\d+)\}\{(\d+)\}", r"\1/\2", text)
    text = re.sub(r"(?<=[-+])\s*[$€£]\s*(?=\d)", "", text)
    for mark in _MARKS:
        for found in reversed(list(mark.finditer(text))):
            line = text[found.end() : found.end() + _BETWEEN].split("\n\n")[0]
            if (number := _NUMBER.search(line)) and (value := _value(number[0])) is not None:
                return value
    for number in reversed(list(_NUMBER.finditer(text))):
        if (value := _value(number[0])) is not None:
            return value
    return None


def _value(text: str) -> Decimal | None:
    over, _, under = text.replace(",", "").replace(" ", "").partition("/")
    try:
        value = Decimal(over) / Decimal(under) if under else Decimal(over)
    except DecimalException:
        return None
    return value if value.is_finite() else None
