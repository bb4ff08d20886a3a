"""Preflight: each thing that would spoil a run is found and named, and a sound run is the same to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from bloomery.core.errors import ArtifactError, DeviceError, TrainingError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.models.classifiers import MeanTextClassifier, MeanTextConfig
from bloomery.training import preflight as preflight_module
from bloomery.training import pretrain, room
from bloomery.training.fit import FitConfig, fit
from bloomery.training.labels import ClassificationObjective, LabelledText, TextReader
from bloomery.training.loader import ExampleLoader
from bloomery.training.preflight import Trial

CONFIG = FitConfig(
    steps=12, batch_rows=8, optimizer="adamw", learning_rate=0.01, device="cpu", validations=0, checkpoint_seconds=1e9
)


@pytest.fixture(autouse=True)
def _short_runs_have_trials(monkeypatch):
    monkeypatch.setattr(preflight_module, "_SHARE", 0.7)


def _fit(home, *, net=None, config=CONFIG, held_out=(), stage="train.fit", **options):
    torch.manual_seed(0)
    texts = [LabelledText([i % 5 + 1, i % 7 + 10], int(i % 5 < 2)) for i in range(64)]
    net = net or MeanTextClassifier(MeanTextConfig(vocab_size=20, dropout=0.1))
    loader = ExampleLoader(texts, held_out, rows=8, seed=0)
    objective = ClassificationObjective(net, loader, TextReader(0), seed=0)
    heard = []
    workspace = Workspace(home, listeners=[heard.append])
    with Run(workspace, StageInputs(stage="test", config={})) as run:
        done = fit(run, objective, config, stage=stage, **options)
    return net, done, [event.data["text"] for event in heard if event.kind == "note"]


def test_a_sound_run_is_the_same_to_the_bit_and_says_what_was_found(tmp_path):
    checked, done, notes = _fit(tmp_path / "a")
    plain, undone, _ = _fit(tmp_path / "b", preflight=False)
    assert all(torch.equal(a, b) for a, b in zip(checked.parameters(), plain.parameters(), strict=True))
    found = done.metrics["preflight"]
    assert "preflight" not in undone.metrics and notes == []
    assert found["unreached"] == [] and min(found["trial_losses"]) < found["trial_losses"][0]
    assert 0 < found["memory_bytes"] < 1e8 and 0 < found["disk_bytes"] < 1e8


def test_a_parameter_that_no_gradient_reaches_is_named(tmp_path):
    class Idle(MeanTextClassifier):
        def __init__(self, config):
            super().__init__(config)
            self.idle = nn.Linear(3, 3)

    _, done, notes = _fit(tmp_path, net=Idle(MeanTextConfig(vocab_size=20)))
    assert done.metrics["preflight"]["unreached"] == ["idle.weight", "idle.bias"]
    assert [note for note in notes if "idle.weight, idle.bias" in note and note.startswith("no gradient reaches 2 of")]


def test_a_batch_that_cannot_be_learnt_stops_the_run(tmp_path, monkeypatch):
    """A sign gone wrong in the loss's gradient: the loss rises, and the run does not begin."""
    real = ClassificationObjective.loss

    class Turned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, *gradients):
            return -gradients[0]

    monkeypatch.setattr(ClassificationObjective, "loss", lambda self, arrays: Turned.apply(real(self, arrays)))
    with pytest.raises(TrainingError, match="one batch cannot be learnt: in 8 steps") as caught:
        _fit(tmp_path / "a")
    assert "--no-preflight" in caught.value.hint
    _fit(tmp_path / "b", preflight=False)


def test_too_little_memory_names_the_rows_that_fit(tmp_path, monkeypatch):
    net, _, _ = _fit(tmp_path / "a")
    fixed = 3 * sum(p.nbytes for p in net.parameters())
    needed = preflight_module.room
    rows = []

    def measured(loop, batch):
        rows.append(needed(loop, batch))
        return rows[-1]

    monkeypatch.setattr(preflight_module, "room", measured)
    _fit(tmp_path / "b")
    monkeypatch.setattr(room, "free_memory", lambda device: fixed + int(rows[0].row_bytes * 1.2 * 3.5))
    with pytest.raises(DeviceError, match="a step of 8 rows needs about") as caught:
        _fit(tmp_path / "c")
    assert caught.value.hint.startswith("--set train.fit.micro_rows=2;")
    _fit(tmp_path / "d", config=replace(CONFIG, micro_rows=2))


def test_too_little_disk_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(ArtifactError, match=r"need about .* of disk, and 0.0 MiB are free") as caught:
        _fit(tmp_path)
    assert "--set train.fit.keep_checkpoints=1" in caught.value.hint


def test_where_it_cannot_be_left_out_it_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    _, done, notes = _fit(tmp_path, stage="adapt.fit")
    assert done.metrics["steps"] == 12 and any("of disk, and 0.0 MiB are free" in note for note in notes)


def test_what_is_held_out_and_in_train_is_said(tmp_path):
    _, done, notes = _fit(tmp_path, held_out=[LabelledText([1, 10], 1), LabelledText([19, 19], 0)])
    assert done.metrics["preflight"]["held_out_in_train"] == 1
    assert any(note.startswith("1 of 2 examples that are held out stand in the training data") for note in notes)


def test_a_short_run_has_no_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight_module, "_SHARE", 0.04)
    _, done, _ = _fit(tmp_path)
    assert "trial_losses" not in done.metrics["preflight"]


def test_pretraining_with_and_without_is_the_same_artifact(material, tmp_path):
    config = replace(material.small, validations=0, checkpoint_seconds=1e9, spikes="take")
    given = (material.corpus, material.tokenizer)
    one, other = (
        pretrain(*given, tokens=material.tokens, config=config, workspace=tmp_path / name, preflight=checked)
        for name, checked in (("a", True), ("b", False))
    )
    assert one.id == other.id
    found = one.metrics["preflight"]
    assert found["unreached"] == [] and found["held_out_in_train"] == 0
    # Every row of 32 tokens is of the corpus's 320 words: chance is ln 320, and eight steps on four rows beat it.
    assert found["trial_losses"][0] == pytest.approx(5.77, abs=0.4) and found["trial_losses"][-1] < 5.3


def test_trial():
    assert Trial((2.0, 2.1, 1.9), ()).fell and not Trial((2.0, 2.0, 2.1), ()).fell
    assert Trial((0.0, 0.0, 0.0), ()).fell
