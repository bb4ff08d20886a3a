"""Numeric: the number that an answer ends with, against that of the target, as GSM8K is scored.

Cobbe and others, arXiv 2110.14168: the target is what stands after "####". In an answer that, a "\\boxed{}", or a
sentence that announces the answer counts before the last number. This module does not know units or currencies: it
passes over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from bloomery.core.number import find_number
from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import nothing, without_target


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
