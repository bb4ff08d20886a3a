"""A trial in its own process: what it says, that it stops when told, and that its checkpoints then go."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from bloomery.cli.sweep import Trial
from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.training.sweep import trial_process
from bloomery.training.sweep.trial_process import PAUSE, Outcome, TrialProcess, TrialStopped, _Reporter, _work, forget


class Line:
    """One end of a pipe, in this process."""

    def __init__(self, answers):
        self.sent, self.answers = [], list(answers)

    def send(self, message):
        self.sent.append(message)

    def recv(self):
        return self.answers.pop(0)


def _curve(run, steps, total=200):
    for step in steps:
        run.event("curve", step=step, total=total, loss=1.0, loss_sum=2.0 * step)


def test_points_are_fifty_and_carry_the_mean_since_the_last(tmp_path):
    line = Line([""] * 50)
    with Run(Workspace(tmp_path, listeners=[_Reporter(line)]), StageInputs(stage="test", config={})) as run:
        _curve(run, range(1, 201))
    assert line.sent[0] == ("run", run.id)
    points = [message[1:] for message in line.sent if message[0] == "point"]
    assert [round(50 * share) for share, _ in points] == list(range(1, 51)) and {mean for _, mean in points} == {2.0}


def test_a_stopped_run_is_a_failed_one_in_the_ledger_and_leaves_no_checkpoints(tmp_path):
    line = Line(["", "it is hopeless"])
    workspace = Workspace(tmp_path, listeners=[_Reporter(line)])
    with (
        pytest.raises(TrialStopped, match="it is hopeless"),
        Run(workspace, StageInputs(stage="test", config={})) as run,
    ):
        (run.scratch / "checkpoints").mkdir()
        _curve(run, range(1, 201))
    row = workspace.ledger.run(run.id)
    assert row["state"] == "failed" and row["error"] == "TrialStopped: it is hopeless"
    forget(tmp_path, run.id)
    assert not run.scratch.exists()


def test_checkpoints_that_another_process_goes_on_from_are_not_forgotten(tmp_path):
    workspace = Workspace(tmp_path)
    with Run(workspace, StageInputs(stage="test", config={})) as run:
        forget(tmp_path, run.id)
        assert run.scratch.exists()


def test_a_resumed_run_goes_on_with_its_sum(tmp_path):
    line = Line([""] * 50)
    with Run(Workspace(tmp_path, listeners=[_Reporter(line)]), StageInputs(stage="test", config={})) as run:
        run.event("resume", step=100, loss_sum=200.0)
        _curve(run, [104])
    assert line.sent[1] == ("point", 0.52, 2.0, 0.5, 1.0)  # 200 of 200 steps up to the half of them


def test_what_goes_on_in_the_middle_of_a_part_is_told_at_its_end(tmp_path):
    """One step's loss would say little."""
    line = Line([""] * 50)
    with Run(Workspace(tmp_path, listeners=[_Reporter(line)]), StageInputs(stage="test", config={})) as run:
        run.event("resume", step=101, loss_sum=202.0)
        _curve(run, range(102, 109))
    assert [message[1] for message in line.sent[1:]] == [0.52, 0.54]


def test_a_run_may_say_itself_where_in_its_schedule_it_is(tmp_path):
    """Its total may grow on the way."""
    line = Line([""] * 50)
    with Run(Workspace(tmp_path, listeners=[_Reporter(line)]), StageInputs(stage="test", config={})) as run:
        run.event("curve", step=100, total=200, share=0.4, loss=1.0, loss_sum=200.0)
        run.event("curve", step=150, total=300, share=0.5, loss=1.0, loss_sum=350.0)
    assert line.sent[1:] == [("point", 0.4, 2.0), ("point", 0.5, 3.0)]


def _tried(tmp_path, do, *, answers=()):
    """The child's half, in a thread; `study` and the verb's test have it in processes."""
    ours, theirs = Pipe()

    def work(values, listener):
        if do == "fail":
            raise ConfigError("no such thing", hint="try another")
        with Run(Workspace(tmp_path, listeners=[listener]), StageInputs(stage="test", config={"do": do})) as run:
            _curve(run, range(4, 201, 4))
        return Outcome(1.5, "model-1")

    thread = threading.Thread(target=_work, args=(theirs, work, {}, tmp_path, 1))
    thread.start()
    answers, said = list(answers), []
    while not said or said[-1][0] not in ("done", "stopped", "failed", "paused"):
        try:
            said.append(ours.recv())
        except EOFError:
            break
        if said[-1][0] == "point":
            if do == "leave" and len(said) > 5:
                ours.close()
                break
            ours.send({"stop": "enough", "pause": PAUSE}.get(do, "") if len(said) > 5 else "")
    thread.join()
    return said


def test_the_childs_half(tmp_path):
    Workspace(tmp_path)
    assert _tried(tmp_path, "end")[-1] == ("done", {"value": 1.5, "artifact": "model-1"})
    assert _tried(tmp_path, "stop")[-1] == ("stopped", "enough")
    assert _tried(tmp_path, "fail") == [("failed", "no such thing (try another)")]
    assert not list(Workspace(tmp_path).scratch.glob("test-*/"))
    assert _tried(tmp_path, "pause")[-1] == ("paused",)
    assert len(list(Workspace(tmp_path).scratch.glob("test-*/"))) == 1


def test_when_the_parent_goes_the_checkpoints_stay(tmp_path):
    Workspace(tmp_path)
    _tried(tmp_path, "leave")
    assert len(list(Workspace(tmp_path).scratch.glob("test-*/"))) == 1


def test_what_another_sweep_trains_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_process, "_LOOK_AGAIN_SECONDS", 0.01)
    inputs, looked = StageInputs(stage="test", config={}), []

    def work(values, listener):
        looked.append(1)
        with Run(Workspace(tmp_path, listeners=[listener]), inputs):
            return Outcome(1.5, "model-1")

    ours, theirs = Pipe()
    trial = threading.Thread(target=_work, args=(theirs, work, {}, tmp_path, 1))
    with Run(Workspace(tmp_path), inputs):
        trial.start()
        while len(looked) < 3:
            time.sleep(0.01)
    # That it waits is said once.
    assert [ours.recv()[0] for _ in range(3)] == ["waiting", "run", "done"]
    trial.join()
    ours, theirs = Pipe()
    trial = threading.Thread(target=_work, args=(theirs, work, {}, tmp_path, 1))
    with Run(Workspace(tmp_path), inputs):
        trial.start()
        ours.send(PAUSE)  # the sweep was interrupted meanwhile
        trial.join()
    assert ours.recv() == ("waiting", "another process is running this very test stage")
    with pytest.raises((EOFError, ConnectionError)):  # it says nothing more
        ours.recv()


def test_a_folder_that_has_gone_is_not_waited_for(tmp_path, monkeypatch):
    """A lock in it can never be had."""
    monkeypatch.setattr(trial_process, "_LOOK_AGAIN_SECONDS", 0.01)
    workspace, (ours, theirs) = Workspace(tmp_path / "home"), Pipe()

    def work(values, listener):
        shutil.rmtree(workspace.scratch, ignore_errors=True)
        with Run(workspace, StageInputs(stage="test", config={})):
            raise AssertionError

    trial = threading.Thread(target=_work, args=(theirs, work, {}, workspace.root, 1), daemon=True)
    trial.start()
    assert ours.poll(10.0)
    kind, why = ours.recv()
    assert kind == "failed" and "scratch has gone" in why


def test_a_workspace_that_has_gone_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("bloomery.cli.sweep.read_recipe", lambda *given: None)
    with pytest.raises(ArtifactError, match="has gone"):
        Trial(recipe=tmp_path / "r.toml", overrides=(), root=tmp_path / "home")({}, lambda event: None)


def test_each_of_several_trials_has_its_part_of_the_counters(tmp_path, monkeypatch):
    told, (_, theirs) = [], Pipe()
    real = trial_process.sharing
    monkeypatch.setattr(trial_process, "sharing", lambda beside: (told.append(beside), real(beside))[1])
    _work(theirs, lambda values, listener: Outcome(1.5, "model-1"), {}, tmp_path, 3)
    assert told == [3]


def _environment(values, listener):
    return Outcome(float(os.environ["BLOOMERY_TEST_FIGURE"]), "model-1")


def test_a_process_has_the_environment_of_who_asks(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[4])  # for the process: where this module is found
    for figure in (1.5, 2.5):
        monkeypatch.setenv("BLOOMERY_TEST_FIGURE", str(figure))
        process = TrialProcess(_environment, {}, tmp_path)
        assert process.message() == ("done", {"value": figure, "artifact": "model-1"})
        process.join()


def test_what_a_trial_imports_is_imported_once(monkeypatch):
    work = Trial(recipe=Path("r.toml"), overrides=(), root=Path("home"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert trial_process._context(work).get_start_method() == "spawn"
    monkeypatch.setattr(sys, "platform", "linux")
    told = []
    monkeypatch.setattr(ForkServerContext, "set_forkserver_preload", lambda self, names: told.append(names))
    assert trial_process._context(work).get_start_method() == "forkserver"
    assert told == [["bloomery.training", "bloomery.cli.chain"]]


def test_what_trials_are_forked_from_has_no_threads_of_python_and_no_gpu():
    """Neither would live through a fork."""
    asked = "import threading, torch, bloomery.training, bloomery.cli.chain as c; "
    asked += "print(threading.active_count(), torch.cuda.is_initialized())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]


def test_in_a_process_of_its_own(tmp_path):
    """The verb's own work, of a recipe that is not there."""
    work = Trial(recipe=tmp_path / "nowhere.toml", overrides=(), root=tmp_path)
    process = TrialProcess(work, {"pretrain.steps": 3}, tmp_path)
    said = process.message()
    process.join()
    assert said[0] == "failed" and "no recipe at" in said[1]
