"""The tracker tells what a run says, begins late, and never ends what it listens to."""

from __future__ import annotations

import sys

import pytest

from bloomery.core.errors import MissingExtraError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.tracking import TrackConfig, Tracker, open_trackers
from bloomery.core.tracking.tracker import flattened
from bloomery.core.workspace import Workspace

POINT = {"loss": 2.5, "loss_sum": 9.0, "smooth_loss": 2.6, "gradient_norm": 1.5, "rate": 0.5, "tokens": 64, "total": 9}


class Recorder:
    def __init__(self) -> None:
        self.begun: list = []
        self.told: list = []
        self.fails = False

    def __call__(self, run, stage, config):
        self.begun.append((run, stage, dict(config)))
        return self

    def scalars(self, step, values, time):
        if self.fails:
            raise ConnectionError("the server\nis gone")
        self.told.append((step, dict(values)))

    def text(self, step, text, time):
        self.told.append((step, text))

    def close(self, state):
        self.told.append(state)


def test_what_is_told(tmp_path):
    heard = Recorder()
    workspace = Workspace(tmp_path, listeners=[Tracker("recorder", heard)])
    with Run(workspace, StageInputs(stage="test", config={"a": {"b": 1}})) as run:
        run.note("before there is anything to show")
        assert heard.begun == []
        run.event("curve", step=3, **POINT)
        run.metrics({"validation_bits_per_byte": 1.25}, step=4)
        run.note("look")
        run.metrics({"final": 1.5})
    assert heard.begun == [(run.id, "test", {"a": {"b": 1}})]
    told = [entry for entry in heard.told if "seconds" not in entry[1]]  # heartbeats come when they come
    shown = {name: POINT[name] for name in ("loss", "smooth_loss", "gradient_norm", "rate", "tokens")}
    bits = (4, {"validation_bits_per_byte": 1.25})
    assert told == [(3, shown), bits, (4, "look"), (4, {"final": 1.5}), "finished"]


def test_a_run_without_curves_is_not_begun(tmp_path):
    heard = Recorder()
    with Run(Workspace(tmp_path, listeners=[Tracker("recorder", heard)]), StageInputs(stage="test", config={})):
        pass
    assert heard.begun == []


def test_a_sink_that_fails_is_let_go_and_the_run_goes_on(tmp_path, capsys):
    heard = Recorder()
    heard.fails = True
    with Run(Workspace(tmp_path, listeners=[Tracker("recorder", heard)]), StageInputs(stage="test", config={})) as run:
        run.event("curve", step=1, **POINT)
        run.event("curve", step=2, **POINT)
    said = capsys.readouterr().err
    assert said == "warning: recorder is told no more: ConnectionError: the server is gone\n"


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_one_line_with_the_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        open_trackers(TrackConfig(sinks=(name,)), tmp_path)
    assert caught.value.hint == f'pip install "bloomery[{name}]"'


def test_flattened():
    assert flattened({"a": 1, "b": {"c": {"d": 2}, "e": {}}}) == {"a": 1, "b.c.d": 2, "b.e": {}}
