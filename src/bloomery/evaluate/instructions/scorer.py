"""The scorer `instructions`: how many of a prompt's verifiable instructions an answer follows.

A sample's metadata has `instructions` (names) and `settings` (a table for each). This module does not know what the
instructions mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import DataError, nearest
from bloomery.evaluate.instructions.checks import CHECKS
from bloomery.evaluate.sample import Answered, Sample, Score


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What following is worth."""

    each: bool = False
    """The share of instructions that are followed, instead of 1 for all of them and else 0; over several samples each
    instruction counts once."""
    loose: bool = False
    """Also as it is without its first line, its last, both, and asterisks: one of these suffices."""

    @property
    def name(self) -> str:
        return f"instructions ({'each' if self.each else 'all'}, {'loose' if self.loose else 'strict'})"

    def score(self, sample: Sample, answered: Answered) -> Score:
        """DataError, with the sample, for an instruction that is not known."""
        names: Sequence[str] = sample.metadata.get("instructions") or ()
        settings: Sequence[Mapping[str, Any]] = sample.metadata.get("settings") or ()
        if not names or len(names) != len(settings):
            raise DataError(f"sample {sample.id!r:.60} has no instructions with a table of settings for each")
        numbered = enumerate(zip(names, settings, strict=True), 1)
        followed = {f"{n}. {name}": self._followed(name, own, answered.text) for n, (name, own) in numbered}
        share = sum(followed.values()) / len(followed)
        missed = [name for name, good in followed.items() if not good]
        return Score(
            sample_id=sample.id,
            scorer=self.name,
            value=share if self.each else float(share == 1),
            why="" if not missed else f"not followed: {', '.join(missed)}",
            details={"parts": [float(good) for good in followed.values()]} if self.each else {},
        )

    def _followed(self, name: str, settings: Mapping[str, Any], text: str) -> bool:
        if name not in CHECKS:
            raise DataError(f"no instruction {name!r:.60}", hint=nearest(name, CHECKS))
        return any(one.strip() and CHECKS[name](one, settings) for one in (versions(text) if self.loose else [text]))


def versions(text: str) -> list[str]:
    """An answer without what models put around it."""
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(one.replace("*", "") for one in cut)]
