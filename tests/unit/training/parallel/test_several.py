"""Two and four processes learn what one does, and go on where another number of them stopped.

The processes are real, over gloo. Losses of equal steps may differ by float32 rounding, in other orders of addition,
which Muon's normalisation amplifies a little over twelve steps: 2e-5 nats of about 4.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.training import ParallelConfig, TrainConfig, loop, pretrain, train
from bloomery.training.building import NetConfig
from bloomery.training.fit import FitConfig
from bloomery.training.parallel.several import recompute
from bloomery.training.parallel.world import open_world

ROUNDING_NATS = 2e-5
HEADS = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SHARDED = ParallelConfig(weights="sharded")


@pytest.fixture(scope="module")
def alone(material, tmp_path_factory) -> Artifact:
    """What one process makes."""
    return _pretrain(material, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def saved_by_two(tmp_path_factory):
    """A workspace in which two ranks stopped after five steps; the first test fills it."""
    return tmp_path_factory.mktemp("two") / "home"


def _pretrain(material, home, parallel: ParallelConfig | None = None, **changes) -> Artifact:
    return pretrain(
        material.corpus,
        material.tokenizer,
        tokens=material.tokens,
        config=replace(material.small, **HEADS, **changes),
        parallel=parallel,
        workspace=home,
    )


def _interrupted(material, home, monkeypatch: pytest.MonkeyPatch, parallel: ParallelConfig | None = None) -> None:
    step = loop.Loop._step

    def stopping(self: loop.Loop) -> None:
        step(self)
        if self.progress.step == 5:
            self._interrupted.set()  # on rank 0 alone: all must stop

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Loop, "_step", stopping)
        _pretrain(material, home, parallel)


def _curves(model: Artifact) -> list[float]:
    metrics = model.metrics
    return [v for _, _, v in (*metrics["loss_curve"], *metrics["validation_curve"])]


def _same(model: Artifact, other: Artifact) -> None:
    assert _curves(model) == pytest.approx(_curves(other), abs=ROUNDING_NATS)
    assert model.metrics["packing"] == other.metrics["packing"]


def test_two_ranks(material, alone, saved_by_two, tmp_path, monkeypatch: pytest.MonkeyPatch):
    with open_world(ParallelConfig(ranks=2)):
        straight = _pretrain(material, tmp_path / "straight")
        _same(straight, alone)
        assert straight.metrics["ranks"] == 2 and "ranks" not in alone.metrics
        parts = _pretrain(material, tmp_path / "parts", micro_rows=1)
        _same(parts, alone)
        _interrupted(material, saved_by_two, monkeypatch)
        for name in ("again", "one"):
            shutil.copytree(saved_by_two, tmp_path / name)
        resumed = _pretrain(material, tmp_path / "again")
        assert resumed.id == straight.id and resumed.metrics["resumed"]
    elastic = _pretrain(material, tmp_path / "one")
    assert elastic.metrics["resumed"]
    _same(elastic, alone)
    runs = Workspace(tmp_path / "one").ledger.runs(stage="pretrain")
    assert len(runs) == 2  # one attempt each: followers record none


def test_four_ranks(material, alone, saved_by_two, tmp_path, monkeypatch: pytest.MonkeyPatch):
    with open_world(ParallelConfig(ranks=4)):
        elastic = _pretrain(material, saved_by_two)
        assert elastic.metrics["resumed"] and elastic.metrics["ranks"] == 4
        _same(elastic, alone)
        _same(_pretrain(material, tmp_path / "straight"), alone)
        sharded = _pretrain(material, tmp_path / "sharded", replace(SHARDED, recompute=True))
        _same(sharded, alone)
        _interrupted(material, tmp_path / "stopped", monkeypatch, SHARDED)
        assert _pretrain(material, tmp_path / "stopped", SHARDED).id == sharded.id
        divided = replace(SHARDED, tensor_ranks=2)
        _same(_pretrain(material, tmp_path / "divided", divided), alone)
        _interrupted(material, tmp_path / "parts", monkeypatch, divided)
        _same(_pretrain(material, tmp_path / "parts", SHARDED), alone)
        _masked_with_clipping(material, tmp_path)


def _masked_with_clipping(material, folder) -> None:
    """Another objective and optimiser; gradients are clipped by the norm of all of them."""
    fit = FitConfig(steps=5, batch_rows=8, optimizer="adamw", max_norm=0.05, precision="float32", device="cpu")
    net = NetConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    config = TrainConfig(objective="causal", context_length=32, net=net, fit=fit)

    def made(name: str, parallel: ParallelConfig | None) -> Artifact:
        given = {"config": config, "tokenizer": material.tokenizer, "workspace": folder / name}
        return train(material.corpus, parallel=parallel, **given)

    replicated, sharded = made("whole", None), made("shards", SHARDED)
    assert replicated.metrics["ranks"] == 4
    assert _curves(sharded) == pytest.approx(_curves(replicated), abs=ROUNDING_NATS)


def test_what_cannot_compute_layers_again():
    from torch import nn

    with pytest.raises(ConfigError, match="cannot compute its layers again"):
        recompute(nn.Linear(2, 2))
