"""A run of minutes has the steps that there is time for; killed and rolled back, the length that it was given stays."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from bloomery.core.run import Run
from bloomery.core.workspace import Workspace
from bloomery.training import causal, loop, pretrain
from bloomery.training.pacing import Allowance, usual_seconds
from bloomery.training.planning.plan import Components
from bloomery.training.planning.planner import plan as make_plan
from bloomery.training.schedule import Schedule

PLANNED = Schedule(total_steps=200, warmup_steps=4, decay_steps=100)


def _progress(step_seconds: float, **changes) -> loop.Progress:
    """A hundred steps in."""
    usual = {"step": 100, "seconds": 100 * step_seconds, "checkpoint_seconds": 5.0}
    return loop.Progress(**{**usual, **changes})


def _elapsed(progress: loop.Progress) -> float:
    return 3.0 + progress.seconds + progress.validation_seconds + progress.checkpoint_seconds


ALLOWANCE = Allowance(
    seconds=240.0,
    step_seconds=1.0,
    evaluation=20.0,
    checkpoints=10.0,
    writing=7.0,
    ordinary_from=0,
    elapsed=_elapsed,
)


@pytest.mark.parametrize(("step_seconds", "steps"), [(1.0, 200), (1.005, 200), (0.8, 255), (1.25, 156), (9.0, 150)])
def test_the_rest_of_the_time_buys_the_rest_of_the_steps(step_seconds, steps):
    """At .8 s: 240 s less 3 of the start, 80 of steps, 5 of checkpoints, and 5, .8 x 20 and 7 that are to come, are
    124: 155 steps. At 9 s there is no time left, but a run has half of its decay."""
    assert ALLOWANCE.total_steps(PLANNED, _progress(step_seconds), step_seconds) == steps


def test_bounds_and_a_batch_that_grows():
    assert ALLOWANCE.total_steps(PLANNED, _progress(0.01), 0.01) == 300  # twice the decay
    growing = replace(PLANNED, first_batch=0.5)
    # A step with a whole batch takes 1 s: those so far took 67 x .5 and 33 x .75, and those to come 34 x .75 and 66.
    progress = _progress(1.0, seconds=growing.batches_before(100))
    allowance = replace(ALLOWANCE, seconds=40.0 + growing.batches_before(200))
    assert allowance.total_steps(growing, progress, 1.0) == 200
    longer = growing.of_length(allowance.total_steps(growing, progress, 0.8))
    rest = longer.batches_before(longer.total_steps) - longer.batches_before(100)
    left = allowance.seconds - _elapsed(progress) - 7 - 0.8 * 20 - 5
    assert longer.total_steps > 200 and left - 0.8 < 0.8 * rest <= left


def test_what_a_step_takes_leaves_out_what_is_unusual():
    """One that compiled, and those with short rows; of a few nothing is said."""
    recent = [0.1] * 90 + [60.0] + [1.0] * 9
    assert usual_seconds(loop.Progress(step=100, recent=recent), 100, 0) == pytest.approx(1.0)
    assert usual_seconds(loop.Progress(step=100, recent=recent), 200, 88) == pytest.approx((2 * 0.1 + 9) / 11)
    assert usual_seconds(loop.Progress(step=100, recent=recent), 200, 95) is None
    assert usual_seconds(loop.Progress(step=100, recent=recent[-5:]), 200, 0) is None


def test_a_longer_schedule_differs_in_its_decay_alone():
    longer = PLANNED.of_length(250)
    assert longer.decay_begins == PLANNED.decay_begins == 100 and longer.of_length(200) == PLANNED
    assert [longer.multiplier(n) for n in range(100)] == [PLANNED.multiplier(n) for n in range(100)]
    assert longer.multiplier(249) == pytest.approx(1 / 151)
    growing = replace(PLANNED, first_batch=0.5)
    shorter = growing.of_length(160)
    assert [shorter.rows(n, 16) for n in range(160)] == [growing.rows(n, 16) for n in range(160)]
    assert shorter.batches_before(160) == pytest.approx(sum(shorter.batch_share(n) for n in range(160)))
    longest = growing.of_length(300)
    assert longest.batches_before(300) == pytest.approx(sum(longest.batch_share(n) for n in range(300)))


def test_the_share_of_a_run_is_its_place_in_the_schedule():
    """Equal up to the decay, whose length says how fast the rest goes by."""
    for steps in (160, 200, 250):
        schedule = PLANNED.of_length(steps)
        assert [schedule.share(n) for n in (0, 50, 100, steps)] == pytest.approx([0, 0.25, 0.5, 1])
        assert schedule.share((100 + steps) // 2) == pytest.approx(0.75)


@pytest.mark.parametrize("steps", [170, 200, 260])
def test_a_bent_decay_is_the_same_to_its_knee_and_as_even_after_it(steps):
    bent = PLANNED.bent(150, steps)
    assert bent.decay_begins == 100 and bent.total_steps == steps
    assert [bent.multiplier(n) for n in range(151)] == [PLANNED.multiplier(n) for n in range(151)]
    rest = [bent.multiplier(n) for n in range(150, steps)]
    falls = [a - b for a, b in pairwise(rest)]
    assert falls == pytest.approx([rest[0] / (steps - 150)] * len(falls)) and rest[-1] == pytest.approx(falls[0])
    assert [bent.share(n) for n in (100, 150, steps)] == pytest.approx([0.5, 0.75, 1])
    assert bent.share((150 + steps) // 2) == pytest.approx(0.875)
    growing = replace(PLANNED, first_batch=0.5).of_length(220).bent(160, steps)
    assert growing.batches_before(steps) == pytest.approx(sum(growing.batch_share(n) for n in range(steps)))
    assert growing.share(steps) == pytest.approx(1)


@pytest.mark.parametrize("knee", [99, 200, 170])
def test_a_knee_is_a_step_of_the_decay(knee):
    with pytest.raises(ValueError, match="a knee"):
        PLANNED.bent(knee, 170)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """The loop's time passes with its steps alone, .5 s in each; its plan was made for 1 s."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Run, "seconds", property(lambda self: now[0]))
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
    assert "60 steps instead of 40, to keep to the time" in said
    assert made.metrics["loss_curve"][-1][0] == 60


@pytest.fixture
def slower(clock, monkeypatch):
    """And 1.5 s in each after step 30, as if another program had begun: 30 of 40 s are gone at step 40 of 60, and what
    is left buys six more; but half of the rest, ten, it has in any case."""
    step, read, late = loop.Loop._step, causal.CausalObjective.next_batch, [False]

    def noted(self):
        late[0] = self.progress.step >= 30
        step(self)

    def next_batch(self, rows):
        clock[0] += 1.0 if late[0] else 0.0
        return read(self, rows)

    monkeypatch.setattr(loop.Loop, "_step", noted)
    monkeypatch.setattr(causal.CausalObjective, "next_batch", next_batch)


def test_halfway_through_its_decay_it_is_settled_again(material, tmp_path, slower):
    made, said = _train(material, tmp_path)
    told = [text for text in said if "to keep to the time" in text]
    assert told == [f"{a} steps instead of {b}, to keep to the time" for a, b in ((60, 40), (50, 60))]
    assert made.metrics["steps"] == 50 and made.metrics["loss_curve"][-1][0] == 50


def _killed_and_resumed(material, tmp_path, clock, monkeypatch, at):
    """The model of a run that was killed before step `at`, its notes, and the model of one that was not."""
    step = loop.Loop._step

    def killed(self):
        if self.progress.step == at:
            raise _Killed
        step(self)

    with monkeypatch.context() as patched, pytest.raises(_Killed):
        patched.setattr(loop.Loop, "_step", killed)
        _train(material, tmp_path / "a")
    clock[0] += 1000.0
    return *_train(material, tmp_path / "a"), _train(material, tmp_path / "b")[0]


@pytest.mark.parametrize("at", [41, 47])
def test_killed_after_its_knee_it_ends_where_it_was_to(material, tmp_path, slower, clock, monkeypatch, at):
    resumed, said, straight = _killed_and_resumed(material, tmp_path, clock, monkeypatch, at)
    assert any("going on from step 40 of 50" in text for text in said)
    assert resumed.id == straight.id and resumed.metrics["steps"] == 50


def test_killed_after_it_was_settled_it_ends_where_it_was_to(material, tmp_path, clock, monkeypatch):
    """Without a word, one step after: what was settled is in a checkpoint by then. Time that passed while it was dead
    is none of its own."""
    resumed, said, straight = _killed_and_resumed(material, tmp_path, clock, monkeypatch, 21)
    assert any("going on from step 20 of 60" in text for text in said)
    assert resumed.id == straight.id and resumed.metrics["steps"] == 60


def test_resumed_where_the_rate_begins_to_fall(material, tmp_path, clock, monkeypatch):
    """What the steps before took is in the checkpoint, too."""
    step = loop.Loop._step

    def interrupted(self):
        step(self)
        if self.progress.step == 19:
            self._interrupted.set()

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(loop.Loop, "_step", interrupted)
        _train(material, tmp_path)
    assert _train(material, tmp_path)[0].metrics["steps"] == 60


class _Killed(BaseException):
    """What no handler expects."""


def test_going_back_does_not_settle_it_again(material, tmp_path, clock, monkeypatch):
    real = causal.CausalObjective.loss
    harmed = []

    def loss(self, arrays):
        value = real(self, arrays)
        at = next((one for one in loops if one.progress.step == 22 and not harmed), None)
        if at is not None:
            harmed.append(at.progress.total_steps)
            clock[0] += 2.0  # what would shorten it, if it were asked again there; halfway there is time enough
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
