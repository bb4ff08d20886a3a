"""Warm-up / stable / decay."""

from __future__ import annotations

import pytest

from bloomery.training.schedule import Schedule


def test_shape():
    schedule = Schedule(total_steps=10, warmup_steps=2, decay_steps=4)
    values = [schedule.multiplier(step) for step in range(10)]
    assert values == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_final_share():
    schedule = Schedule(total_steps=4, warmup_steps=0, decay_steps=4, final=0.5)
    assert schedule.multiplier(0) == pytest.approx(0.5 + 0.5 * 4 / 5)
    assert schedule.multiplier(3) == pytest.approx(0.5 + 0.5 / 5)


@pytest.mark.parametrize(("total", "warmup", "decay"), [(0, 0, 0), (3, 2, 2)])
def test_impossible(total: int, warmup: int, decay: int):
    with pytest.raises(ValueError, match=r"schedule|longer"):
        Schedule(total_steps=total, warmup_steps=warmup, decay_steps=decay)


def test_no_decay_stays_at_one():
    schedule = Schedule(total_steps=3, warmup_steps=0, decay_steps=0)
    assert [schedule.multiplier(s) for s in range(3)] == [1, 1, 1]
