"""A run of minutes has the steps that there is time for; killed and rolled back, the length that it was given stays."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bloomery.core.workspace import Workspace
from bloomery.training import causal, loop, pretrain
from bloomery.training.pacing import Allowance, Elapsed
from bloomery.training.planning.plan import Components
from bloomery.training.planning.planner import plan as make_plan
from bloomery.training.schedule import Schedule

PLANNED = Schedule(total_steps=200, warmup_steps=4, decay_steps=100)
ALLOWANCE = Allowance(steps=200.0, evaluation=20.0, checkpoints=10.0)


def _elapsed(step_seconds: float, **changes: float) -> Elapsed:
    usual = {"step": 100, "steps": 100 * step_seconds, "evaluation": 0.0, "checkpoints": 5.0}
    return Elapsed(**{**usual, "step_seconds": step_seconds, **changes})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("step_seconds", "steps"), [(1.0, 200), (1.005, 200), (0.8, 255), (1.25, 156), (9.0, 150)])
def test_the_rest_of_the_time_buys_the_rest_of_the_steps(step_seconds, steps):
    """At .8 s: 230 s less 80 of steps, 5 of checkpoints, 5 and .8 x 20 that are to come, are 124: 155 steps. At 9 s
    there is no time left, but a run has half of its decay."""
    assert ALLOWANCE.total_steps(PLANNED, _elapsed(step_seconds)) == steps


def test_bounds_and_a_batch_that_grows():
    assert ALLOWANCE.total_steps(PLANNED, _elapsed(0.01)) == 300  # twice the decay
    growing = replace(PLANNED, first_batch=0.5)
    # A step with a whole batch takes 1 s: those so far took 66 x .5 and 33 x .75, and those to come 33 x .75 and 67.
    elapsed = _elapsed(1.0, steps=growing.batches_before(100))
    allowance = replace(ALLOWANCE, steps=growing.batches_before(200))
    assert allowance.total_steps(growing, elapsed) == 200
    longer = allowance.total_steps(growing, replace(elapsed, step_seconds=0.8))
    rest = growing.of_length(longer).batches_before(longer) - growing.of_length(longer).batches_before(100)
    assert longer > 200 and 0.8 * rest == pytest.approx(growing.batches_before(200) - elapsed.steps, abs=0.8)


def test_a_longer_schedule_differs_in_its_decay_alone():
    longer = PLANNED.of_length(250)
    assert longer.decay_begins == PLANNED.decay_begins == 100 and longer.of_length(200) == PLANNED
    assert [longer.multiplier(n) for n in range(100)] == [PLANNED.multiplier(n) for n in range(100)]
    assert longer.multiplier(249) == pytest.approx(1 / 151)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """The loop's time passes with its steps alone, .5 s in each; its plan was made for 1 s."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    read = causal.CausalObjective.next_batch

    def next_batch(self, rows):
        now[0] += 0.5
        return read(self, rows)

    monkeypatch.setattr(causal.CausalObjective, "next_batch", next_batch)

    def planned(request, **named):
        return replace(make_plan(request, **named), steps=40, components=Components(steps=40.0))

    monkeypatch.setattr(sys.modules["bloomery.training.pretrain"], "make_plan", planned)
    return now


def _train(material, home, **changes):
    heard = []
    config = replace(material.small, **{"steps": 0, "minutes": 0.5, "validations": 0, **changes})
    workspace = Workspace(home, listeners=[heard.append])
    made = pretrain(material.corpus, material.tokenizer, tokens=material.tokens, config=config, workspace=workspace)
    return made, [event.data["text"] for event in heard if event.kind == "note"]


def test_a_run_of_minutes_takes_them(material, tmp_path, clock):
    made, said = _train(material, tmp_path)
    assert made.metrics["steps"] == 60 and made.metrics["plan"]["steps"] == 40  # 20 of 40, and twice the decay
    assert "60 steps instead of 40, to keep to the time: they take 0.5 s each" in said
    assert made.metrics["loss_curve"][-1][0] == 60


def test_killed_after_it_was_settled_it_ends_where_it_was_to(material, tmp_path, clock, monkeypatch):
    step = loop.Loop._step

    def interrupted(self):
        step(self)
        if self.progress.step in (10, 30):
            self._interrupted.set()

    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "_step", interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                _train(material, tmp_path / "a")
    resumed, said = _train(material, tmp_path / "a")
    assert any("going on from step 30 of 60" in text for text in said)
    straight, _ = _train(material, tmp_path / "b")
    assert resumed.id == straight.id and resumed.metrics["steps"] == 60


def test_going_back_does_not_settle_it_again(material, tmp_path, clock, monkeypatch):
    real = causal.CausalObjective.loss
    harmed = []

    def loss(self, arrays):
        value = real(self, arrays)
        at = next((one for one in loops if one.progress.step == 22 and not harmed), None)
        if at is not None:
            harmed.append(at.progress.total_steps)
            clock[0] += 5.0  # what would shorten it, if it were asked again
            return value * math.nan
        return value

    loops: list[loop.Loop] = []
    begin = loop.Loop.train
    monkeypatch.setattr(loop.Loop, "train", lambda self: (loops.append(self), begin(self))[1])
    monkeypatch.setattr(causal.CausalObjective, "loss", loss)
    made, _ = _train(material, tmp_path, checkpoint_every_steps=6)
    assert harmed == [60] and made.metrics["skipped"][0]["back_to"] == 18
    assert made.metrics["steps"] == 60


def test_a_run_of_steps_takes_these(material, tmp_path, clock):
    made, _ = _train(material, tmp_path, steps=40)
    assert made.metrics["steps"] == 40
