"""The model of time finds the machine that made the times."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bloomery.training.planning.shapes import LADDER, shaped, step_flops, update_flops
from bloomery.training.planning.timing import StepTimeModel, Timed, checkpoint_rate, fit_step_times

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]
MACHINE = StepTimeModel(0.02, 0.005, 1e-11)


def timed(place: int, off: float = 1.0, rows: int = 16) -> Timed:
    config = shaped(BASE, *LADDER[place])
    return Timed(config, rows, 64, 1, off * MACHINE.seconds(config, rows=rows, context_length=64))


def test_seconds_are_overhead_layers_and_operations():
    work = step_flops(BASE, 16 * 64, 64) + update_flops(BASE)
    assert MACHINE.seconds(BASE, rows=16, context_length=64, parts=4) == pytest.approx(0.02 + 8 * 0.005 + work * 1e-11)


def test_the_machine_is_found():
    found = fit_step_times([timed(0), timed(2), timed(3)])
    for place in range(len(LADDER)):
        there = timed(place)
        assert found.seconds(there.config, rows=16, context_length=64) == pytest.approx(there.seconds, rel=1e-6)


def test_another_batch():
    found = fit_step_times([timed(0), timed(2), timed(3)])
    there = timed(4, rows=64)
    assert found.seconds(there.config, rows=64, context_length=64) == pytest.approx(there.seconds, rel=1e-6)


def test_noise_makes_no_negative_overhead():
    found = fit_step_times([timed(0, 0.8), timed(2, 1.1), timed(3, 1.2)])
    assert min(vars(found).values()) >= 0
    there = timed(4)
    assert found.seconds(there.config, rows=16, context_length=64) == pytest.approx(there.seconds, rel=0.4)


def test_one_shape_is_scaled_by_operations():
    found = fit_step_times([timed(2)])
    assert found.overhead_seconds == found.layer_seconds == 0
    assert found.seconds(timed(2).config, rows=16, context_length=64) == pytest.approx(timed(2).seconds)


def test_the_disk_is_measured(tmp_path: Path):
    assert checkpoint_rate(tmp_path, size_bytes=100_000) > 0
    assert not list(tmp_path.iterdir())
