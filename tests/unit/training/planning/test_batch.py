"""The rule for batches and rates against its published constants, and against recorded grids of full runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bloomery.training.planning.batch import batch_rows, batch_rows_of_steps, best_batch_tokens, rate_scale

RESULTS = Path(__file__).parents[4] / "experiments" / "results"


def test_the_rule():
    # Step Law's constants: at 100 billion tokens about 1.1 million a batch.
    assert best_batch_tokens(1e11) == pytest.approx(0.58 * 1e11**0.571) == pytest.approx(1.1e6, rel=0.05)


def test_rows_are_a_power_of_two_and_4096_tokens_at_least():
    assert [batch_rows(tokens, 256) for tokens in (0, 1e6, 5e6, 1e8, 1e9)] == [16, 16, 16, 64, 256]
    assert batch_rows(0, 8192) == 1


def test_rows_of_a_number_of_steps_suit_their_tokens():
    for steps in (100, 10_000, 100_000):
        rows = batch_rows_of_steps(steps, 256)
        assert rows == batch_rows(steps * rows * 256, 256) or rows == 16


def test_rates_stay_where_the_rule_has_the_batch():
    assert rate_scale(best_batch_tokens(1e7), 1e7) == pytest.approx(1.0)
    assert rate_scale(best_batch_tokens(1e7) / 2.25, 1e7) == pytest.approx(1 / 1.5)
    assert (rate_scale(1, 1e9), rate_scale(1e9, 1e3)) == (0.5, 1.0)


@pytest.mark.parametrize(("grid", "tokens"), [("stories", 184_320), ("plays", 92_160)])
def test_the_grids_best_rates_are_near(grid: str, tokens: int):
    """Of six rates, two sizes and two batches: the best rate by a parabola through the best three, and its batch."""
    runs = json.loads((RESULTS / f"sweep_grid_{grid}.json").read_text(encoding="utf-8"))["runs"]
    for width in (48, 96):
        for rows in (4, 12):
            found = sorted(
                (np.log(run["dials"]["rate"]), run["bits_per_byte"])
                for run in runs
                if run["dials"]["width"] == width and run["dials"]["batch"] == rows
            )
            x, y = np.array(found).T
            place = int(y.argmin())
            a, b, _ = np.polyfit(x[place - 1 : place + 2], y[place - 1 : place + 2], 2)
            best = float(np.exp(-b / (2 * a)))
            # Before it is bounded: the grid's models are smaller than those that the bound is for.
            rule = (rows * 128 / best_batch_tokens(tokens)) ** 0.5
            assert rule / best == pytest.approx(1.0, abs=0.5), (width, rows, best)
