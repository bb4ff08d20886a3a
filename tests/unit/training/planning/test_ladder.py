"""The ladder fills its time with runs that are long enough."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models import ModelConfig
from bloomery.training.planning.ladder import LEAST_STEPS, RungConfig, branches_of, choose_ladder, trained_steps
from bloomery.training.planning.shapes import LADDER, matrix_parameters, shaped

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]
SHAPES = [shaped(BASE, *rung) for rung in LADDER]


def seconds(config: ModelConfig) -> float:
    return matrix_parameters(config) * 1e-7


def chosen(budget: float) -> list[RungConfig]:
    return choose_ladder(
        SHAPES,
        step_seconds=seconds,
        validation_seconds=lambda config: seconds(config) * 2,
        seconds=budget,
        decay_fraction=0.5,
        warmup_fraction=0.02,
    )


def test_branches_share_the_stable_part():
    # 100 steps of which the first 50 serve all, and decays of 50, 25 and 13 (12.5).
    assert trained_steps((25, 50, 100), 0.5) == 50 + 87.5
    assert branches_of(400) == (50, 100, 200, 400) and branches_of(100) == (50, 100)
    rung = RungConfig(num_hidden_layers=1, hidden_size=64, branches=(25, 50), decay_fraction=0.5, warmup_steps=1)
    assert rung.start(25) == 13 and rung.start(50) == 25


@pytest.mark.parametrize("budget", [120.0, 300.0, 600.0])
def test_the_time_is_filled_and_kept(budget: float):
    rungs = chosen(budget)
    assert len(rungs) == (4 if budget >= 420 else 3)
    sizes = [matrix_parameters(shaped(BASE, r.num_hidden_layers, r.hidden_size)) for r in rungs]
    assert sizes == sorted(sizes) and sizes[-1] > 3 * sizes[0]
    spent = 0.0
    for rung in rungs:
        assert rung.branches[0] >= LEAST_STEPS and len(rung.branches) >= 2
        step = seconds(shaped(BASE, rung.num_hidden_layers, rung.hidden_size))
        spent += step * (trained_steps(rung.branches, 0.5) + 2 * len(rung.branches))
    assert 0.9 * budget < spent <= budget * 1.01
    assert sum(len(rung.branches) for rung in rungs) >= 6


@pytest.mark.parametrize("budget", range(8, 60, 4))
def test_there_are_runs_enough_for_a_law_or_none(budget: int):
    try:
        rungs = chosen(float(budget))
    except ConfigError:
        assert budget < 48
        return
    assert sum(len(rung.branches) for rung in rungs) >= 6


def test_more_time_reaches_larger_sizes():
    assert chosen(3000.0)[-1].hidden_size > chosen(120.0)[-1].hidden_size


def test_too_little_time():
    with pytest.raises(ConfigError, match="too few to calibrate") as caught:
        chosen(5.0)
    assert caught.value.hint == "--calibration-minutes 10, or more"
    with pytest.raises(ConfigError) as caught:  # of shapes that take a hundred times as long
        choose_ladder(
            SHAPES,
            step_seconds=lambda config: 100.0,
            validation_seconds=lambda config: 0.0,
            seconds=900.0,
            decay_fraction=0.5,
            warmup_fraction=0.02,
        )
    assert caught.value.hint == "--calibration-minutes 30, or more"
