"""A rung's runs are those that pre-training would have made, at less cost, and survive being stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.tokenizer import Tokenizer
from bloomery.training import pretrain
from bloomery.training.planning.batch import rate_scale
from bloomery.training.planning.ladder import RungConfig
from bloomery.training.planning.rung import Point, Rung, read_points, settings_of, write_points
from bloomery.training.pretrain_config import plan_request

RUNG = RungConfig(num_hidden_layers=1, hidden_size=64, branches=(8, 16), decay_fraction=0.5, warmup_steps=1)


LONG = replace(RUNG, branches=(400, 40_000))


def trained(material, home) -> list[Point]:
    config = replace(material.small, learning_rate_scale=1.0)
    request = plan_request(config, material.tokens, Tokenizer.load(material.tokenizer.path))
    with Run(Workspace(home), StageInputs(stage="rung", config={})) as run:
        rung = Rung(run, RUNG, material.tokens, request, batch_rows=4, micro_rows=4, precision="float32", seed=0)
        points = rung.train()
        folder = run.new_folder("rung")
        write_points(folder, points)
        assert read_points(run.publish(folder, kind="rung")) == points
    return points


def test_points_are_those_of_whole_runs(material, tmp_path):
    points = trained(material, tmp_path / "rung")
    for point in points:
        how = {"warmup_fraction": 0.0, "validations": 0, "learning_rate_scale": 1.0}
        config = replace(material.small, steps=point.steps, **how)
        model = pretrain(
            material.corpus, material.tokenizer, tokens=material.tokens, config=config, workspace=tmp_path / "whole"
        )
        # The same weights, data and schedule; validated in batches of another size: the order of a float32 sum.
        assert point.bits_per_byte == pytest.approx(model.metrics["validation_bits_per_byte"], rel=1e-5)
        assert point.parameters == 1 * (64 * 64 * 4 + 3 * 64 * 192)
    assert points[0].bytes_seen * 2 == points[1].bytes_seen


def test_stopped_and_gone_on_with(material, tmp_path, monkeypatch: pytest.MonkeyPatch):
    straight = trained(material, tmp_path / "a")
    real = Rung._branch

    def stopped(self: Rung, steps: int, warmup: int, trunk) -> Point:
        if steps == 16:
            raise KeyboardInterrupt
        return real(self, steps, warmup, trunk)

    monkeypatch.setattr(Rung, "_branch", stopped)
    with pytest.raises(KeyboardInterrupt):
        trained(material, tmp_path / "b")
    monkeypatch.setattr(Rung, "_branch", real)
    assert trained(material, tmp_path / "b") == straight


def test_rates_suit_runs_of_middling_length(material, tmp_path):
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    with Run(Workspace(tmp_path), StageInputs(stage="rung", config={})) as run:
        rung = Rung(run, LONG, material.tokens, request, batch_rows=1, micro_rows=1, precision="float32", seed=0)
    scale = rate_scale(32, 32 * (400 * 40_000) ** 0.5)
    group = rung.optimizers.parts["muon"].param_groups[0]
    assert scale < 1 and group["lr"] == pytest.approx(0.02 * scale)


def test_settings_are_what_a_law_holds_for(material):
    codec = Tokenizer.load(material.tokenizer.path)
    base = settings_of(plan_request(material.small, material.tokens, codec), batch_rows=4)
    faster = replace(material.small, learning_rate_scale=2.0)
    other = settings_of(plan_request(faster, material.tokens, codec), batch_rows=4)
    assert {name for name in base if base[name] != other[name]} == {"optimizer"}
