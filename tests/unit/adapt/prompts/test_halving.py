"""Successive halving: who is asked how much, and who stays."""

from __future__ import annotations

import numpy as np

from bloomery.adapt.prompts.halving import halve, last_rung, rungs


def test_rungs_double_until_all():
    assert rungs(100, 16) == [16, 32, 64, 100]
    assert rungs(10, 16) == [10] and rungs(32, 16) == [16, 32]


def test_the_better_half_stays_and_the_baseline_with_it():
    asked: list[tuple[int, int]] = []

    def evaluate(candidate: int, items: int) -> tuple[float, float]:
        asked.append((candidate, items))
        return candidate / 10, 5.0

    standings, whole = halve(range(8), 64, evaluate, first=16)
    assert whole and asked == [
        *((n, 16) for n in range(8)),
        *((n, 32) for n in (0, 4, 5, 6, 7)),
        *((n, 64) for n in (0, 5, 6, 7)),
    ]
    assert [one.candidate for one in last_rung(standings)] == [7, 6, 5, 0]
    assert [one.candidate for one in standings if one.items == 16 and not one.stays] == [3, 2, 1]


def test_of_equals_the_cheaper_and_then_the_first():
    standings, _ = halve([0, 1, 2, 3], 8, lambda candidate, items: (0.5, (9.0, 4.0, 4.0, 7.0)[candidate]), first=8)
    assert [one.candidate for one in standings] == [1, 2, 3, 0]


def test_where_the_budget_ends_the_last_whole_rung_stands():
    standings, whole = halve(range(4), 64, lambda c, items: None if (c, items) == (2, 32) else (c, 1.0), first=16)
    assert not whole and {one.items for one in last_rung(standings)} == {16}
    assert halve(range(4), 64, lambda c, items: None, first=16) == ([], False)
    standings, whole = halve(range(4), 64, lambda c, items: None if c == 2 else (c, 1.0), first=16)
    assert not whole and [one.candidate for one in standings] == [1, 0]  # those that were looked at


def test_the_best_is_found_with_a_fraction_of_the_questions():
    """Sixteen candidates, the best .8 and the others .5: in 200 simulated searches."""
    right = spent = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        answers = (rng.random((16, 256)) < np.where(np.arange(16) == 11, 0.8, 0.5)[:, None]).astype(float)
        seen: dict[int, int] = {}

        def evaluate(candidate, items, answers=answers, seen=seen):
            seen[candidate] = max(seen.get(candidate, 0), items)
            return float(answers[candidate, :items].mean()), 1.0

        standings, _ = halve(range(16), 256, evaluate, first=32)
        right += last_rung(standings)[0].candidate == 11
        spent += sum(seen.values())
    assert right >= 190 and spent / 200 < 0.45 * 16 * 256
