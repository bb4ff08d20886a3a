"""Sweeps on Optuna: every trial in the ledger with its joules, gone on with where they were killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from bloomery.core.config import to_dict
from bloomery.core.errors import ArtifactError, InUseError, MissingExtraError
from bloomery.core.locks import FileLock
from bloomery.core.quantity import Quantity
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.energy import meter
from bloomery.training.sweep import SweepConfig, study, sweep, trial_process
from bloomery.training.sweep.running import Running
from bloomery.training.sweep.trial_process import PAUSE, Outcome, TrialProcess, TrialThread

pytest.importorskip("optuna")
DIALS = {"train.rate": [1.0, 2.0, 4.0], "train.size": {"low": 1, "high": 2}}
CONFIG = SweepConfig(dials=DIALS, sampler="grid", stop="hopeless")
_STEPS = 50
FAILS: tuple[float, int] | None = (4.0, 2)


class Watts:
    """A meter that counts a joule each time it is read."""

    def __init__(self) -> None:
        self._read = count()

    def read(self):
        return Quantity.exact(float(next(self._read)), "counter")

    def describe(self):
        return {"method": "counter"}

    def close(self):
        pass


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    monkeypatch.setattr(study, "TrialProcess", TrialThread)


def _trial(root, *, log=None, stop_at=None, heard=_STEPS):
    """A run whose loss is a power law with a floor that is its distance from (2, 1); rate 4 with size 2 fails."""

    def work(values, listener):
        rate, size = values["train.rate"], values["train.size"]
        if log is not None:
            log.append((rate, size))
        floor = 2 + abs(rate - 2) + 0.5 * (size - 1)
        inputs = StageInputs(stage="train", config=dict(values))
        with Run(Workspace(root, listeners=[listener]), inputs, meter=Watts()) as run:
            saved = run.scratch / "step"
            begin = int(saved.read_text()) if saved.is_file() else 0
            if begin:
                run.event("resume", step=begin, loss_sum=_sum(floor, begin))
            with run.phase("train"):
                for step in range(begin + 1, _STEPS + 1):
                    if (rate, size) == FAILS and step == 3:
                        raise ArtifactError("no room")
                    if stop_at is not None and step == stop_at:
                        raise KeyboardInterrupt
                    saved.write_text(str(step))
                    run.meter.read()
                    if step <= heard:
                        run.event("curve", step=step, total=_STEPS, loss=0.0, loss_sum=_sum(floor, step))
            folder = run.new_folder()
            (folder / "w").write_text(str(values))
            made = run.publish(folder, kind="model")
        return Outcome(floor + 0.3, made.name)

    return work


def _sum(floor, step):
    return sum(floor + 0.3 * (n / _STEPS) ** -0.5 for n in range(1, step + 1))


def _swept(root, config=CONFIG, **options):
    return sweep(config, _trial(root, **options), workspace=Workspace(root), identity={"r": 1})


def test_a_grid_with_stopped_and_failed_trials(tmp_path):
    report = _swept(tmp_path)
    states = {(row.values["train.rate"], row.values["train.size"]): row.state for row in report.rows}
    assert len(states) == 6 and states[4.0, 2] == "failed" and states[2.0, 1] == "finished"
    assert "stopped" in states.values()
    assert report.best is not None and report.best.value == pytest.approx(2.3)
    workspace = Workspace(tmp_path)
    runs = workspace.ledger.runs(stage="train")
    assert len(runs) == 6 and report.joules.central == sum(run["energy_joules"]["central"] for run in runs) > 0
    stopped = [row for row in report.rows if row.state == "stopped"]
    assert all(0 < row.share < 1 and "chance" in row.note and row.joules.central > 0 for row in stopped)
    assert {run["error"].partition(":")[0] for run in runs if run["state"] == "failed"} == {
        "TrialStopped",
        "ArtifactError",
    }
    assert len(list(workspace.scratch.glob("train-*/step"))) == 1  # of the one that failed, which may be tried again


HALVING = SweepConfig(dials={**DIALS, "train.size": {"low": 1, "high": 4}}, sampler="grid", points=4)


def test_halving_lets_few_end_and_each_goes_on_from_where_it_was(tmp_path):
    log: list = []
    report = _swept(tmp_path, HALVING, log=log)
    assert len(report.rows) == 12 and report.best is not None and report.best.value == pytest.approx(2.3)
    shares = sorted(round(row.share, 2) for row in report.rows if row.state != "failed")
    # Of twelve, seven go beyond 6%, two beyond 30%, one beyond half; one fails at its third step.
    assert shares == [0.06] * 4 + [0.3] * 5 + [0.5, 1.0]
    assert all("left at" in row.note for row in report.rows if row.state == "stopped")
    workspace = Workspace(tmp_path)
    assert report.joules.central == sum(r["energy_joules"]["central"] for r in workspace.ledger.runs(stage="train"))
    best = workspace.ledger.attempts(StageInputs(stage="train", config=report.best.values).key)
    assert [run["state"] for run in best] == ["failed"] * 3 + ["finished"] and log.count((2.0, 1)) == 4
    assert report.saved is not None and report.saved > 0.5
    assert len(list(workspace.scratch.glob("train-*/step"))) == 1
    before = len(log)
    assert _swept(tmp_path, HALVING, log=log).to_dict() == report.to_dict() and len(log) == before


@pytest.mark.parametrize("values", [{"train.rate": 2.0, "train.size": 1}, {"train.rate": 4.0, "train.size": 4}])
def test_halving_goes_on_with_a_training_that_was_begun_elsewhere(tmp_path, values):
    """Its first losses lie beyond the first rung, or beyond the last; the best may be among such ones, too."""
    for stop_at in (10, 28):
        root = tmp_path / str(stop_at)
        Workspace(root)
        with pytest.raises(KeyboardInterrupt):
            _trial(root, stop_at=stop_at)(values, lambda event: None)
        report = _swept(root, HALVING)
        assert len(report.rows) == 12 and report.best is not None and report.best.value == pytest.approx(2.3)
        (begun,) = [row for row in report.rows if row.values == values]
        assert begun.share >= stop_at / _STEPS and (begun.state == "finished") == (values["train.size"] == 1)


def test_who_has_ended_does_not_go_on(tmp_path):
    """Of 1,500 steps the last that is told is the 1,498th."""
    log: list = []
    report = _swept(tmp_path, HALVING, log=log, heard=_STEPS - 1)
    before = len(log)
    assert _swept(tmp_path, HALVING, log=log, heard=_STEPS - 1).to_dict() == report.to_dict() and len(log) == before


@contextmanager
def _killed(monkeypatch, when):
    """Inside, a sweep dies before it hears more of a trial of which `when` holds: the trial, and its rung's end."""
    hear = study._Sweeping._hear

    def dying(self, trial, process, until):
        if when(trial, until):
            process.connection.close()
            raise KeyboardInterrupt
        return hear(self, trial, process, until)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(study._Sweeping, "_hear", dying)
        yield


RANDOM = SweepConfig(dials={"train.rate": {"low": 1.0, "high": 3.0}, "train.size": [1, 2]}, sampler="random", trials=6)


def _rows(report):
    """What came of it; not how far, for a trial that was killed at a rung's end goes on to its next point."""
    return [(row.number, row.values, row.state, row.value) for row in report.rows]


@pytest.mark.parametrize("sampler", ["random", "tpe", "grid"])
@pytest.mark.parametrize("stop", ["halving", "hopeless"])
def test_killed_twice_it_is_the_same_sweep(tmp_path, monkeypatch, sampler, stop):
    """Number for number and value for value: TPE, too, which has seen enough to draw by it after ten."""
    config = replace(RANDOM, sampler=sampler, stop=stop, trials=14 if sampler == "tpe" else 6)
    straight, log = _swept(tmp_path / "a", config), []
    for _ in range(2):
        dies = len(log) + 2
        with _killed(monkeypatch, lambda trial, until, dies=dies: len(log) >= dies):
            _swept(tmp_path / "b", config, log=log)
    assert _rows(_swept(tmp_path / "b", config)) == _rows(straight)
    assert [row.number for row in straight.rows] == list(range(len(straight.rows)))


def test_what_ran_at_the_same_time_goes_on_under_its_numbers(tmp_path, monkeypatch):
    straight, log = _swept(tmp_path / "a", RANDOM), []
    heard = count()
    with _killed(monkeypatch, lambda trial, until: next(heard) == 5):
        sweep(RANDOM, _trial(tmp_path / "b", log=log), workspace=Workspace(tmp_path / "b"), identity={"r": 1}, jobs=3)
    assert _rows(_swept(tmp_path / "b", RANDOM)) == _rows(straight)


def test_a_kill_between_two_dials_of_a_draw(tmp_path, monkeypatch):
    from optuna.trial import Trial

    straight, suggest = _swept(tmp_path / "a", RANDOM), Trial.suggest_categorical

    def dying(self, name, choices):
        if self.number == 2:
            raise KeyboardInterrupt
        return suggest(self, name, choices)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Trial, "suggest_categorical", dying)
        _swept(tmp_path / "b", RANDOM)
    assert _rows(_swept(tmp_path / "b", RANDOM)) == _rows(straight)


@pytest.mark.parametrize("jobs", [1, 2])
def test_lines_number_trials_as_the_table_does(tmp_path, jobs):
    said: list[str] = []
    work, config = _trial(tmp_path), replace(HALVING, sampler="random")
    report = sweep(config, work, workspace=Workspace(tmp_path), identity={}, jobs=jobs, say=said.append)
    numbers = {str(row.values): row.number for row in report.rows}
    told = [line.removeprefix("trial ").split(" ", 1) for line in said]
    assert len(told) > len(numbers) == 12
    assert {rest.partition("}")[0] + "}": int(number) for number, rest in told} == numbers
    assert all(numbers[rest.partition("}")[0] + "}"] == int(number) for number, rest in told)


def test_halving_killed_in_a_later_rung(tmp_path, monkeypatch):
    straight, log = _swept(tmp_path / "a", HALVING), []
    with _killed(monkeypatch, lambda trial, until: until == 0.5 and "share" in trial.user_attrs):
        _swept(tmp_path / "b", HALVING, log=log)
    told = {json.dumps(row.values): (row.state, row.value, row.share) for row in straight.rows}
    again = _swept(tmp_path / "b", HALVING, log=log)
    assert {json.dumps(row.values): (row.state, row.value, row.share) for row in again.rows} == told


def test_done_is_done_and_more_trials_go_on(tmp_path):
    log: list = []
    few = _swept(tmp_path, SweepConfig(**{**to_dict(CONFIG), "trials": 2}), log=log)
    assert len(few.rows) == len(log) == 2
    all_of_them = _swept(tmp_path, log=log)
    assert len(log) == len(set(log)) == 6 and all_of_them.rows[:2] == few.rows
    assert _swept(tmp_path, log=log).to_dict() == all_of_them.to_dict() and len(log) == 6


def test_killed_and_gone_on_with(tmp_path, monkeypatch):
    """The parent dies while its second trial runs: that one is asked again, with the same values, then the rest."""
    log: list = []
    with _killed(monkeypatch, lambda trial, until: trial.number == 1 and "share" in trial.user_attrs):
        _swept(tmp_path, log=log)
    assert len(log) == 2
    report = _swept(tmp_path, log=log)
    assert log.count(log[1]) == 2 and len(log) == 7 and len(set(log)) == len(report.rows) == 6
    again = next(row for row in report.rows if row.values == {"train.rate": log[1][0], "train.size": log[1][1]})
    key = StageInputs(stage="train", config=again.values).key
    attempts = Workspace(tmp_path).ledger.attempts(key)
    assert len(attempts) == 2 and again.joules.central == sum(a["energy_joules"]["central"] for a in attempts)


@pytest.fixture
def opened(monkeypatch) -> list[int]:
    """Ray's part played here, one trial after another, by the calls that Tune makes; holds how many clusters began."""
    begun: list[int] = []

    class Trials:
        def __init__(self, work, workspace, sharers):
            self._work, self._root, self._sharers = work, workspace.root, sharers

        def drive(self, ask, tell):
            while (asked := ask()) is not None:
                trial, values = asked
                process, answer = TrialThread(self._work, values, self._root, sharers=self._sharers), ""
                while not answer:
                    message = process.message()
                    answer = tell(trial, message)
                    if answer == "":
                        process.answer("")
                    elif answer is None and message[0] not in ("waiting", "run"):
                        break
                    answer = answer or ""
                if answer:
                    tell(trial, ("paused",) if answer == PAUSE else ("stopped", answer))
                    process.leave()
                else:
                    process.join()

    @contextmanager
    def trials(work, workspace, jobs, running):
        begun.append(jobs)
        yield Trials(work, workspace, running)

    monkeypatch.setattr(study, "ray_trials", trials)
    return begun


@pytest.mark.parametrize("config", [CONFIG, HALVING], ids=["hopeless", "halving"])
def test_ray_comes_to_what_processes_do_and_goes_on_with_what_they_began(tmp_path, config, opened):
    ray = replace(config, engine="ray")

    def told(report):
        return [(row.values, row.state, row.value, row.share, row.note) for row in report.rows]

    expected = told(_swept(tmp_path / "local", config))
    assert told(_swept(tmp_path / "ray", ray)) == expected and opened == [1]
    assert len(list(Workspace(tmp_path / "ray").scratch.glob("train-*/step"))) == 1
    assert told(_swept(tmp_path / "ray", ray)) == expected and opened == [1]  # nothing is left: no cluster either
    few = _swept(tmp_path / "both", replace(config, trials=2))
    both = _swept(tmp_path / "both", ray)
    assert both.rows[:2] == few.rows or config.stop == "halving"
    assert [row.values for row in both.rows] == [row[0] for row in expected]
    assert told(_swept(tmp_path / "both", config)) == told(both) and opened == [1, 1]


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_trials_read_how_many_they_are(tmp_path, engine, opened, monkeypatch):
    """One that waits for another sweep's training does not count, and after the end nobody does."""
    monkeypatch.setattr(trial_process, "_LOOK_AGAIN_SECONDS", 0.01)
    seen, said = [], []
    (tmp_path / "sweeps").mkdir()

    def work(values, listener):
        (path,) = (tmp_path / "sweeps").glob("*.running")
        asked = meter._sharers.get()  # what a meter that is opened here divides by
        assert isinstance(asked, Running) and asked.path == path
        seen.append(path.read_text())
        if len(seen) < 4:
            time.sleep(0.05)
            raise InUseError("another process is there")
        return Outcome(1.0, "model")

    config = SweepConfig(dials={"train.rate": [1.0]}, stop="never", engine=engine)
    sweep(config, work, workspace=Workspace(tmp_path), identity={}, say=said.append)
    assert seen[0] == "1" and seen[-1] == "0" and not list((tmp_path / "sweeps").glob("*.running"))
    assert [line for line in said if "waiting" in line] == [
        "trial 0 {'train.rate': 1.0}: waiting, another process is there"
    ]


def test_the_number_of_trials_that_run_falls_as_they_end(tmp_path):
    seen, gate = [], threading.Barrier(2)

    def work(values, listener):
        gate.wait(10.0)  # two begin together
        (path,) = (tmp_path / "sweeps").glob("*.running")
        for _ in range(200):
            time.sleep(0.01)
            seen.append(path.read_text())
            if seen[-1] == {1.0: "2", 2.0: "1"}.get(values["train.rate"], seen[-1]):
                break
        return Outcome(values["train.rate"], "model")

    config = SweepConfig(dials={"train.rate": [1.0, 2.0]}, sampler="grid", stop="never")
    report = sweep(config, work, workspace=Workspace(tmp_path), identity={}, jobs=2)
    assert {row.state for row in report.rows} == {"finished"} and {"1", "2"} <= set(seen)


def test_several_at_a_time(tmp_path):
    report = sweep(CONFIG, _trial(tmp_path), workspace=Workspace(tmp_path), identity={}, jobs=3)
    assert len(report.rows) == 6 and report.best is not None and report.best.values["train.rate"] == 2.0


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_are_seeded(tmp_path, sampler):
    dials = {"train.rate": {"low": 1.0, "high": 3.0}, "train.size": [1]}
    config = SweepConfig(dials=dials, sampler=sampler, trials=3, stop="never")
    one, other = (_swept(tmp_path / name, config) for name in "ab")
    drawn = [row.values["train.rate"] for row in one.rows]
    assert drawn == [row.values["train.rate"] for row in other.rows] and len(set(drawn)) == 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_equal_values_are_not_tried_twice(tmp_path, jobs):
    """Two trials of equal values come to the same, and at the same time they are in each other's way."""
    config = SweepConfig(dials={"train.rate": [1.0, 2.0, 3.0], "train.size": [1]}, sampler="random", stop="halving")
    log: list = []
    report = sweep(config, _trial(tmp_path, log=log), workspace=Workspace(tmp_path), identity={}, jobs=jobs)
    assert len(report.rows) == 3 and "failed" not in {row.state for row in report.rows}
    assert len(Workspace(tmp_path).ledger.runs(stage="train")) == len(log)
    assert max(log.count(one) for one in log) == 4  # the parts of the best


def test_trials_beyond_an_earlier_end_are_new_ones(tmp_path):
    dials = {"train.rate": {"low": 1.0, "high": 3.0}, "train.size": [1]}
    few = SweepConfig(dials=dials, sampler="random", trials=2, stop="never")
    rows = [_swept(tmp_path, replace(few, trials=trials)).rows for trials in (2, 4)]
    assert rows[1][:2] == rows[0] and len({row.values["train.rate"] for row in rows[1]}) == 4


def test_a_killed_trial_keeps_what_it_had_reported(tmp_path, monkeypatch):
    """Its run goes on from a checkpoint and says the first part no more, by which it is judged, too."""
    config = SweepConfig(dials={"train.rate": [1.0], "train.size": [1]}, stop="never")
    straight = _reported(_swept(tmp_path / "a", config), tmp_path / "a")
    with _killed(monkeypatch, lambda trial, until: trial.user_attrs.get("share", 0.0) > 0.4):
        _swept(tmp_path / "b", config)
    again = _reported(_swept(tmp_path / "b", config), tmp_path / "b")
    assert again == pytest.approx(straight)  # what was trained at that instant, and not heard, too


def _reported(report, root):
    """The curve of the trial that ended."""
    from optuna import load_study
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    assert [row.state for row in report.rows] == ["finished"]
    (journal,) = (root / "sweeps").glob("*.jsonl")
    found = load_study(study_name=journal.stem, storage=JournalStorage(JournalFileBackend(str(journal))))
    return found.get_trials(states=(TrialState.COMPLETE,))[0].intermediate_values


@pytest.mark.parametrize("config", [CONFIG, HALVING], ids=["hopeless", "halving"])
def test_what_failed_is_tried_again_when_asked(tmp_path, config, monkeypatch):
    log: list = []
    assert [row.state for row in _swept(tmp_path, config, log=log).rows].count("failed") == 1
    before = len(log)
    _swept(tmp_path, config, log=log)
    assert len(log) == before
    monkeypatch.setitem(globals(), "FAILS", None)  # there is room again
    report = sweep(config, _trial(tmp_path, log=log), workspace=Workspace(tmp_path), identity={"r": 1}, retry=True)
    assert log[before:] == [(4.0, 2)] and "failed" not in {row.state for row in report.rows}


@dataclass(frozen=True)
class Killed:
    """Work that is killed in the middle; in a process of its own."""

    root: Path

    def __call__(self, values, listener):
        with Run(Workspace(self.root, listeners=[listener]), StageInputs(stage="train", config={}), meter=Watts()):
            os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_had_used_is_known(tmp_path, monkeypatch):
    """Its last sign of life says it."""
    monkeypatch.setattr(study, "TrialProcess", TrialProcess)
    monkeypatch.syspath_prepend(Path(__file__).parents[4])  # for the process: where this module is found
    config = SweepConfig(dials={"train.rate": [1.0]}, stop="never")
    report = sweep(config, Killed(tmp_path), workspace=Workspace(tmp_path), identity={"r": 1})
    assert [(row.state, row.note) for row in report.rows] == [("failed", "its process ended with code -9")]
    # Only the heartbeats say so: one joule was counted by the first of them, another by each later one.
    assert report.joules.central is not None and report.joules.central >= 1.0
    assert report.rows[0].runs and not report.rows[0].train_joules.known


def test_a_trial_without_a_run_is_unknown(tmp_path):
    def work(values, listener):
        raise ArtifactError("no room")

    config = SweepConfig(dials={"train.rate": [1.0]}, stop="never")
    report = sweep(config, work, workspace=Workspace(tmp_path), identity={})
    assert [row.state for row in report.rows] == ["failed"] and not report.joules.known


def test_two_at_once_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(FileLock, "try_acquire", lambda self: not self.path.match("sweeps/*.lock"))
    with pytest.raises(ArtifactError, match="another process is running this very sweep"):
        _swept(tmp_path)


def test_without_optuna(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError) as caught:
        _swept(tmp_path)
    assert caught.value.hint == 'pip install "bloomery[sweep]"'
