"""Fit: steps found by timing and taken back, rates by optimiser, settings that are checked."""

from __future__ import annotations

import errno
import io
import json
import shutil
from dataclasses import replace

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.progress import ProgressView
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.models.classifiers import MeanTextClassifier, MeanTextConfig
from bloomery.training import checkpoint
from bloomery.training.fit import FitConfig, fit, seconds_a_step
from bloomery.training.labels import ClassificationObjective, LabelledText, TextReader
from bloomery.training.loader import ExampleLoader
from bloomery.training.loop import Loop

CONFIG = FitConfig(steps=40, batch_rows=8, optimizer="adamw", learning_rate=0.01, device="cpu", validations=1)


def _objective() -> ClassificationObjective:
    torch.manual_seed(0)
    texts = [LabelledText([i % 5 + 1, i % 7 + 10], int(i % 5 < 2)) for i in range(64)]
    net = MeanTextClassifier(MeanTextConfig(vocab_size=20, dropout=0.1))
    return ClassificationObjective(net, ExampleLoader(texts, texts[:16], rows=8, seed=0), TextReader(0), seed=0)


def _fit(home, config: FitConfig, **options):
    with Run(Workspace(home), StageInputs(stage="test", config={"c": repr(config)})) as run:
        return fit(run, _objective(), config, **options)


def test_it_learns_and_says_what_it_did(tmp_path):
    done = _fit(tmp_path, CONFIG)
    assert done.validation is not None and done.validation.value == 1.0
    metrics = done.metrics
    assert metrics["steps"] == 40 and metrics["examples_read"] == 320 and metrics["validation_accuracy"] == 1.0
    assert metrics["precision"] == "float32" and not metrics["resumed"]


def test_timing_leaves_nothing_behind():
    objective = _objective()
    before = {name: value.clone() for name, value in objective.model.state_dict().items()}
    place, random = objective.state_dict(), torch.get_rng_state()
    assert seconds_a_step(objective, CONFIG, torch.device("cpu"), "float32") > 0
    assert all(torch.equal(value, before[name]) for name, value in objective.model.state_dict().items())
    assert objective.state_dict() == place and torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in objective.model.parameters())


def test_epochs_become_steps(tmp_path):
    done = _fit(tmp_path, FitConfig(epochs=1.5, batch_rows=8, device="cpu"), steps_an_epoch=8)
    assert done.metrics["steps"] == 12
    with pytest.raises(ConfigError, match="epochs of this data"):
        _fit(tmp_path, FitConfig(epochs=1.0, device="cpu"))


def test_minutes_become_steps_that_are_shown(tmp_path):
    shown = io.StringIO()
    workspace = Workspace(tmp_path, listeners=[ProgressView(stream=shown)])
    with Run(workspace, StageInputs(stage="test", config={})) as run:
        done = fit(run, _objective(), FitConfig(minutes=0.02, batch_rows=8, device="cpu", validations=0))
    assert done.metrics["steps"] >= 1
    assert f"{done.metrics['steps']:,} steps fit into 0.02 minutes" in shown.getvalue()


def test_large_gradients_are_scaled_down(tmp_path):
    free = _fit(tmp_path / "a", CONFIG).metrics["loss_curve"]
    held = _fit(tmp_path / "b", FitConfig(**{**vars(CONFIG), "max_norm": 1e-4})).metrics["loss_curve"]
    assert free != held


def test_rates():
    muon = FitConfig(learning_rate=0.01).rates()
    assert (muon.matrix_lr, muon.embedding_lr, muon.head_lr) == pytest.approx((0.01, 0.01, 0.002))
    adamw = FitConfig(optimizer="adamw").rates()
    assert {adamw.matrix_lr, adamw.embedding_lr, adamw.head_lr, adamw.scalar_lr} == {1e-3}
    for optimizer in ("muon", "adamw"):
        apart = FitConfig(optimizer=optimizer, learning_rate=0.01, embedding_learning_rate=0.003).rates()
        assert (apart.matrix_lr, apart.embedding_lr) == pytest.approx((0.01, 0.003))


@pytest.mark.parametrize(
    "options",
    [
        *({"batch_rows": 0}, {"validation_batches": 0}, {"steps": -1}, {"warmup_fraction": 0.6}, {"minutes": 0.0}),
        *({"optimizer": "sgd"}, {"precision": "fp16"}, {"spikes": "rollback"}),
        *({"epochs": float("nan")}, {"epochs": float("inf")}, {"learning_rate": float("nan")}),
    ],
)
def test_settings_are_checked(options):
    with pytest.raises(ConfigError):
        FitConfig(**options)


def test_the_best_validation_is_kept(tmp_path, monkeypatch):
    """Of validations that get worse after the second, the second's weights are what is left, also after a kill."""
    figures = {"a": [1.0, 0.5, 0.9, 0.7], "b": [1.0, 0.5], "c": [0.9, 0.7], "d": [1.0, 0.5]}
    figures["e"] = [0.5, 0.9, 0.9, 0.7]
    figures |= {"f": [1.0, 0.1], "g": [0.5], "h": [0.9, 0.9, 0.7]}
    seen = []

    def validate(which):
        from bloomery.training.objective import Validation

        def one(self, batches, device, precision):
            assert batches is None
            value = figures[which].pop(0)
            seen.append((value, {name: p.detach().clone() for name, p in self.model.named_parameters()}))
            return Validation({"nats_per_example": value}, "nats_per_example")

        return one

    def run(home, which, *, stop=0):
        config = replace(CONFIG, keep_best=True, validations=3, checkpoint_every_steps=5)
        monkeypatch.setattr(ClassificationObjective, "validate", validate(which))
        step = Loop._step

        def counted(self):
            step(self)
            if self.progress.step == stop:
                self._interrupted.set()

        with monkeypatch.context() as patched:
            patched.setattr(Loop, "_step", counted)
            objective = _objective()
            with Run(Workspace(home), StageInputs(stage="test", config={})) as one:
                return objective, fit(one, objective, config)

    objective, done = run(tmp_path / "a", "a")
    best = seen[1][1]
    assert done.metrics["best_step"] == 20 and done.validation is not None and done.validation.value == 0.5
    assert done.metrics["kept_by"] == "nats_per_example"
    assert all(torch.equal(p, best[name]) for name, p in objective.model.named_parameters())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", "b", stop=25)
    objective, done = run(tmp_path / "b", "c")
    assert done.metrics["best_step"] == 20
    assert all(torch.equal(p, best[name]) for name, p in objective.model.named_parameters())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "c", "d", stop=25)
    shutil.rmtree(next((tmp_path / "c").rglob("checkpoints")))  # begun anew: the best of before is none of this run's
    assert run(tmp_path / "c", "e")[1].metrics["best_step"] == 10
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "d", "f", stop=25)
    (state,) = (tmp_path / "d").rglob("step-*25/state.json")
    told = json.loads(state.read_text())
    del told["state"]["progress"]["best"]["kept_by"], told["sha256"]["state"]  # as versions before it wrote it
    state.write_text(json.dumps(told))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "d", "g", stop=12)  # anew, and killed: what came before is not gone on from
    assert run(tmp_path / "d", "h")[1].metrics["best_step"] == 10


def _validated(monkeypatch: pytest.MonkeyPatch, *figures: float) -> list[dict[str, torch.Tensor]]:
    """Validations that give these figures; the weights at each of them."""
    from bloomery.training.objective import Validation

    left, weights = list(figures), list[dict[str, torch.Tensor]]()

    def validate(self, batches, device, precision):
        weights.append({name: p.detach().clone() for name, p in self.model.named_parameters()})
        return Validation({"nats_per_example": left.pop(0)}, "nats_per_example")

    monkeypatch.setattr(ClassificationObjective, "validate", validate)
    return weights


def _best_kept(home, notes):
    config, objective = replace(CONFIG, keep_best=True, validations=3), _objective()
    workspace = Workspace(home, listeners=[lambda e: notes.append(e.data["text"]) if e.kind == "note" else None])
    with Run(workspace, StageInputs(stage="test", config={})) as run:
        return objective, fit(run, objective, config)


def test_a_full_disk_costs_a_best_validation_not_the_run(tmp_path, monkeypatch):
    weights, notes, real = _validated(monkeypatch, 1.0, 0.5, 0.9, 0.7), list[str](), checkpoint.write_pieces

    def full_for_one(tensors, path):
        if "best" in path.parts and "00000020" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "write_pieces", full_for_one)
    objective, done = _best_kept(tmp_path, notes)
    assert any("no room for the weights of step 20" in note and "free some space" in note for note in notes)
    assert done.metrics["best_step"] == 40 and done.validation is not None and done.validation.value == 0.7
    assert all(torch.equal(p, weights[3][name]) for name, p in objective.model.named_parameters())


def test_weights_that_cannot_be_read_any_more_do_not_cost_the_last_ones(tmp_path, monkeypatch):
    weights, notes = _validated(monkeypatch, 1.0, 0.5, 0.9, 0.7), list[str]()
    best = Loop._best

    def damaging(self, final):
        (self.kept / "step-00000020" / "model.safetensors").unlink()
        return best(self, final)

    monkeypatch.setattr(Loop, "_best", damaging)
    objective, done = _best_kept(tmp_path, notes)
    assert any("step 20" in note and "cannot be read any more" in note for note in notes)
    assert done.metrics["best_step"] == 40 and done.validation is not None and done.validation.value == 0.7
    assert all(torch.equal(p, weights[3][name]) for name, p in objective.model.named_parameters())


@pytest.mark.parametrize("text", ["{}", "torn", '{"steps": 0}', '{"steps": "9"}'])
def test_a_pace_that_says_nothing_is_told_in_one_line(tmp_path, text):
    with Run(Workspace(tmp_path), StageInputs(stage="test", config={})) as run:
        (run.scratch / "fit.json").write_text(text)
        if text == "{}":
            assert fit(run, _objective(), FitConfig(minutes=0.01, batch_rows=8, device="cpu")).metrics["steps"] >= 1
            return
        with pytest.raises(DataError, match=r"fit\.json"):
            fit(run, _objective(), FitConfig(minutes=0.01, batch_rows=8, device="cpu"))
