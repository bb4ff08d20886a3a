"""Threads: half of them while that is clearly faster, within the time, and only where the choice is ours."""

from __future__ import annotations

import runpy
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bloomery.core.quantity import Quantity
from bloomery.training.planning import threads as threads_module
from bloomery.training.planning.plan import Budget, PlanRequest
from bloomery.training.planning.threads import advice_on_threads, choose_threads, may_choose_threads, threads_fight
from bloomery.training.speed import FewerThreads, StepTime

BASE = runpy.run_path(str(Path(__file__).parents[3] / "small_config.py"))["BASE"]
REQUEST = PlanRequest(tokens=1000, text_bytes=4000, vocab_size=512, budget=Budget(minutes=1.0), base=BASE)
TIMING = StepTime(
    seconds=0.1,
    low=0.09,
    high=0.12,
    bursts=(0.1, 0.1),
    rows=4,
    context_length=16,
    precision="float32",
    compiled=False,
    compile_seconds=0.0,
    parameters=1,
    validation_seconds=0.04,
    watts=Quantity.exact(20.0, "counter"),
)


@pytest.fixture
def eight_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


class Machine:
    """What a step takes with so many threads, in any unit."""

    def __init__(self, times: dict[int, float], watts: Quantity | None = None) -> None:
        self.times, self.watts, self.asked = times, watts or Quantity.unknown(), list[tuple[int, int, float]]()

    def __call__(self, more: int, fewer: int, seconds: float) -> FewerThreads:
        self.asked.append((more, fewer, seconds))
        return FewerThreads(share=self.times[fewer] / self.times[more], watts=self.watts)


def peaceful(more: int, fewer: int) -> bool:
    return False


def test_half_while_it_is_faster(eight_threads: None):
    machine = Machine({8: 1.0, 4: 0.8, 2: 0.6, 1: 0.9}, Quantity.exact(9.0, "counter"))
    threads, timing, said = choose_threads(TIMING, 4.0, machine)
    assert threads == 2 and [one[:2] for one in machine.asked] == [(8, 4), (4, 2), (2, 1)]
    assert timing.seconds == pytest.approx(0.06) and timing.low == pytest.approx(0.054)
    assert timing.validation_seconds == pytest.approx(0.024) and timing.watts.central == 9.0
    assert said.startswith("4 threads: 0.80 of the time of 8") and "2 threads: 0.75 of the time of 4" in said
    assert said.endswith("2 threads: with 1 a step takes 1.50 of the time, not clearly less")
    assert all(seconds <= 4.0 for *_, seconds in machine.asked)
    assert torch.get_num_threads() == 8  # to set it is the planner's


@pytest.mark.parametrize("half", [0.98, 1.6])
def test_all_where_half_is_not_clearly_faster(eight_threads: None, half: float):
    machine = Machine({8: 1.0, 4: half})
    threads, timing, said = choose_threads(TIMING, 4.0, machine)
    assert (threads, timing) == (8, TIMING) and len(machine.asked) == 1
    assert said == f"8 threads: with 4 a step takes {half:.2f} of the time, not clearly less"


def test_one_thread_is_the_least(eight_threads: None):
    torch.set_num_threads(3)
    machine = Machine({3: 1.0, 1: 0.5})
    threads, timing, _ = choose_threads(TIMING, 4.0, machine)
    assert threads == 1 and machine.asked == [(3, 1, pytest.approx(4.0, abs=0.1))]
    assert timing.watts.central == 20.0  # the meter had not moved


def test_what_it_may_take_is_kept(eight_threads: None):
    machine = Machine({8: 1.0, 4: 0.5})
    threads, timing, said = choose_threads(TIMING, 0.35, machine, peaceful)
    assert (threads, timing) == (8, TIMING) and not machine.asked and "too much of this run's time" in said

    def slow(more: int, fewer: int, seconds: float) -> FewerThreads:
        time.sleep(0.3)
        return machine(more, fewer, seconds)

    # One comparison, after which half a step's time is left of 0.05 s.
    assert choose_threads(TIMING, 0.45, slow, peaceful)[0] == 4 and len(machine.asked) == 1


def test_where_threads_fight_fewer_are_tried_whatever_it_takes(eight_threads: None):
    machine = Machine({8: 1.0, 4: 0.3, 2: 0.2, 1: 0.1})
    threads, timing, said = choose_threads(TIMING, 0.0, machine, lambda more, fewer: more > 2)
    assert threads == 2 and [one[:2] for one in machine.asked] == [(8, 4), (4, 2)]
    assert timing.seconds == pytest.approx(0.02) and said.endswith("would take too much of this run's time")
    assert all(seconds >= 0 for *_, seconds in machine.asked)


def test_what_steps_took_as_they_were_compared_is_what_counts():
    """The machine was twice as busy as the first were timed."""
    found = FewerThreads(share=0.5, watts=Quantity.unknown(), seconds=0.025)
    timing = TIMING.with_threads(found)
    assert timing.seconds == pytest.approx(0.025) and timing.high == pytest.approx(0.03)


def test_threads_that_fight_are_seen(monkeypatch: pytest.MonkeyPatch):
    clock, before = [0.0], torch.get_num_threads()
    for slower, fights in ((1.0, False), (1.2, False), (3.0, True)):

        def now(slower: float = slower) -> float:
            clock[0] += slower if torch.get_num_threads() == 2 else 1.0
            return clock[0]

        with monkeypatch.context() as patch:
            patch.setattr(time, "perf_counter", now)
            assert threads_fight(2, 1) == fights
        assert torch.get_num_threads() == before


@pytest.mark.parametrize("fights", [True, False])
def test_a_run_of_steps_is_told_that_its_threads_fight(
    eight_threads: None, monkeypatch: pytest.MonkeyPatch, fights: bool
):
    monkeypatch.setattr(threads_module, "threads_fight", lambda threads, fewer: (threads, fewer) == (8, 4) and fights)
    steps = replace(REQUEST, budget=Budget(steps=100))
    advice = advice_on_threads(steps)
    assert len(advice) == fights and all("OMP_NUM_THREADS=4" in text for text in advice)
    assert advice_on_threads(REQUEST) == []  # whose threads are chosen
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert advice_on_threads(steps) == []


def test_whose_choice_it_is(eight_threads: None, monkeypatch: pytest.MonkeyPatch):
    assert may_choose_threads(REQUEST)
    assert not may_choose_threads(replace(REQUEST, tries_threads=False))
    assert not may_choose_threads(replace(REQUEST, device=torch.device("cuda")))
    assert not may_choose_threads(replace(REQUEST, budget=Budget(steps=100)))  # the same bits again
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert not may_choose_threads(REQUEST)
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    assert not may_choose_threads(REQUEST)
