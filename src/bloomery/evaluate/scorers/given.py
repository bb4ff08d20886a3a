"""Given: what every scorer does first: an answer that failed or is empty is worth nothing, and a long one is cut.

This module does not know how answers are judged.
"""

from __future__ import annotations

from bloomery.evaluate.sample import Answered, Sample, Score

MAX_CHARACTERS = 1 << 18
"""Of an answer that a scorer reads; the rest is not looked at."""


def nothing(scorer: str, sample: Sample, answered: Answered) -> Score | None:
    """Worth 0 and why, for an answer that there is not; None for one that there is."""
    if answered.error:
        return Score(sample_id=sample.id, scorer=scorer, value=0.0, why=f"no answer: {answered.error}")
    if not answered.text.strip():
        return Score(sample_id=sample.id, scorer=scorer, value=0.0, why="an empty answer")
    return None


def without_target(scorer: str, sample: Sample) -> Score:
    """Worth 0 and why, for a sample that says nothing that this scorer could compare with."""
    return Score(sample_id=sample.id, scorer=scorer, value=0.0, why="the sample has no target")
