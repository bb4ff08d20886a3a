"""Sequences: what is no sequence, unknown or of low complexity goes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bloomery.corpus.judge import Judge
from bloomery.corpus.sequence_rules import RULES, _dust

DNA = "".join(random.Random(0).choices("ACGT", k=640))
PROTEIN = "".join(random.Random(1).choices("ACDEFGHIKLMNPQRSTVWY", k=300))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ACGTACG", "bio_residues"),
        (f"{DNA}J", "bio_foreign"),
        (f"{DNA[:200]}{'N' * 50}", "bio_unknown"),
        (f"{PROTEIN}{'X' * 50}", "bio_unknown"),
        ("CA" * 300, "bio_low_complexity"),
        ("hello, this is prose 123!", "bio_foreign"),
    ],
)
def test_what_is_dropped(text: str, rule: str):
    assert Judge(RULES).judge(text).rule.name == rule  # type: ignore[union-attr]


def test_random_sequences_stay_with_header_and_gaps():
    for text in (f">sp|x description\n{DNA[:300]}\n{DNA[300:]}", PROTEIN, f"{DNA}-*"):
        assert Judge(RULES).judge(text).rule is None


def test_dust_is_its_formula():
    import numpy as np

    triplets = [DNA[i : i + 3] for i in range(62)]
    counts = Counter(triplets).values()
    numbers = np.array([int.from_bytes(t.encode(), "big") for t in triplets])
    assert _dust(numbers) == pytest.approx(sum(c * (c - 1) / 2 for c in counts) / 61)
