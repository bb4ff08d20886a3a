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


def test_a_batch_grows_in_thirds_and_rates_with_its_root():
    schedule = Schedule(total_steps=6, warmup_steps=0, decay_steps=0, first_batch=0.5)
    assert [schedule.rows(step, 16) for step in range(6)] == [8, 8, 12, 12, 16, 16]
    assert schedule.multiplier(0) == pytest.approx(0.5**0.5) and schedule.multiplier(5) == 1
    assert [Schedule(total_steps=2, warmup_steps=0, decay_steps=0).rows(s, 5) for s in range(2)] == [5, 5]
    assert Schedule(total_steps=2, warmup_steps=0, decay_steps=0, first_batch=0.1).rows(0, 1) == 1
    with pytest.raises(ValueError, match="first batch"):
        Schedule(total_steps=2, warmup_steps=0, decay_steps=0, first_batch=0.0)


@pytest.mark.parametrize("first", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 12])
def test_batches_before_a_step_are_the_sum_of_their_shares(first: float, steps: int):
    schedule = Schedule(total_steps=steps, warmup_steps=0, decay_steps=0, first_batch=first)
    for step in range(steps + 1):
        assert schedule.batches_before(step) == pytest.approx(sum(schedule.batch_share(n) for n in range(step)))
