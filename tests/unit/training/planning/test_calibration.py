"""A calibration finds the law of a corpus, is found by later plans, and is not done twice."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.workspace import Workspace
from bloomery.tokenizer import Tokenizer
from bloomery.training.planning import calibration, ladder
from bloomery.training.planning.calibration import CalibrationConfig, calibrate, find_law, law_of, read_law
from bloomery.training.planning.law import DEFAULT_LAW, effective_data
from bloomery.training.planning.rung import Point
from bloomery.training.pretrain_config import plan_request

TRUE = {"E": 0.8, "A": 40.0, "alpha": 0.4, "B": 60.0, "beta": 0.3}


def test_the_law_of_points_discounts_repeats():
    unique = 1e6
    points = []
    for size in (300_000, 1_000_000, 3_000_000):
        for seen in (4e5, 1e6, 4e6, 1e7):
            data = effective_data(seen, unique)
            loss = TRUE["E"] + TRUE["A"] / size ** TRUE["alpha"] + TRUE["B"] / data ** TRUE["beta"]
            points.append(Point(parameters=size, steps=1, bytes_seen=seen, bits_per_byte=loss))
    law = law_of(points, unique)
    assert law.calibrated and law.origin == "12 runs on this corpus"
    # The prior moves the constants, which the points do not tell well, and the prediction hardly.
    for size, seen in ((600_000, 2e6), (2_000_000, 8e6), (6_000_000, 2e7)):
        truth = TRUE["E"] + TRUE["A"] / size ** TRUE["alpha"] + TRUE["B"] / effective_data(seen, unique) ** TRUE["beta"]
        assert law.expected(size, seen, unique) == pytest.approx(truth, rel=0.01)
    # Where it has seen runs it is as sure as two runs of one plan allow; far beyond them it is not.
    near, far = law.predict(2e6, 2e6, unique), law.predict(2e8, 1e11, 1e11)
    assert near.low is not None and near.high is not None and far.low is not None and far.high is not None
    assert 1.02 < near.high / near.low < 1.08 < far.high / far.low


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiny sizes and short runs, whatever the machine's speed."""
    monkeypatch.setattr(ladder, "LEAST_STEPS", 4)
    monkeypatch.setattr(calibration, "LADDER", ((1, 64), (2, 64), (2, 128)))
    monkeypatch.setattr(calibration, "_SAMPLES", 8)
    real = calibration.choose_ladder

    def choose(shapes, **how):
        known = {
            "step_seconds": lambda config: 0.1 * config.num_hidden_layers,
            "validation_seconds": lambda config: 0.1,
        }
        found = real(shapes, **{**how, **known, "seconds": 9.0})
        return [replace(rung, branches=rung.branches[-3:]) for rung in found]

    monkeypatch.setattr(calibration, "choose_ladder", choose)


def test_calibrated_once_and_found(material, tmp_path, few_steps):
    workspace = Workspace(tmp_path)
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    assert find_law(workspace, material.tokens.id, request)[0] is DEFAULT_LAW
    made = calibrate(material.tokens, material.tokenizer, request, workspace=workspace)
    assert made.kind == "scaling_law" and made.metrics["runs"]
    stages = [run["stage"] for run in workspace.ledger.runs()]
    again = calibrate(material.tokens, material.tokenizer, request, workspace=workspace)
    assert again.id == made.id and [run["stage"] for run in workspace.ledger.runs()] == stages
    assert stages.count("ladder") == stages.count("calibrate") == 1 and stages.count("rung") >= 2
    law, said = find_law(workspace, material.tokens.id, request)
    assert law == read_law(made) and law.calibrated and made.name in said
    assert len(law.samples) == 8 and np.isfinite(law.samples).all()
    wider, warned = find_law(workspace, material.tokens.id, replace(request, context_length=64))
    assert "other context_length" in warned and wider.spread_high > law.spread_high
    sooner = plan_request(
        replace(material.small, decay_fraction=0.2), material.tokens, Tokenizer.load(material.tokenizer.path)
    )
    assert "other decay_fraction" in find_law(workspace, material.tokens.id, sooner)[1]
    assert find_law(workspace, "other tokens", request)[0] is DEFAULT_LAW
    # The batch is compared when it is known; what no ladder has, or has otherwise, is said at once.
    rows = request.batch_rows * request.context_length
    assert (
        law.batch_tokens == rows and find_law(workspace, material.tokens.id, replace(request, batch_rows=0))[0] == law
    )
    assert find_law(workspace, material.tokens.id, replace(request, batch_rows=64))[0] == law
    for changed in ({"first_batch": 0.5}, {"short_rows_fraction": 0.4}, {"warmup_fraction": 0.1}):
        wider, warned = find_law(workspace, material.tokens.id, replace(request, **changed))
        assert f"other {next(iter(changed))}:" in warned and wider.spread_low > law.spread_low


def test_a_law_of_an_earlier_version(material, tmp_path, few_steps, monkeypatch: pytest.MonkeyPatch):
    """Without a batch in its file, and without a warm-up in its settings."""
    workspace = Workspace(tmp_path)
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    to_dict = calibration.ScalingLaw.to_dict
    with monkeypatch.context() as patch:
        patch.setattr(
            calibration.ScalingLaw,
            "to_dict",
            lambda law: {k: v for k, v in to_dict(law).items() if k != "batch_tokens"},
        )
        made = calibrate(material.tokens, material.tokenizer, request, workspace=workspace)
    assert "batch_tokens" not in made.file("law.json").read_text(encoding="utf-8")
    law, said = find_law(workspace, material.tokens.id, request)
    assert law.batch_tokens == request.batch_rows * request.context_length and made.name in said


def test_of_several_laws_that_of_the_batch_comes_first(material, tmp_path, few_steps):
    workspace = Workspace(tmp_path)
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    wanted = calibrate(material.tokens, material.tokenizer, request, workspace=workspace)
    larger = replace(request, batch_rows=2 * request.batch_rows)
    newer = calibrate(material.tokens, material.tokenizer, larger, workspace=workspace)
    assert wanted.name in find_law(workspace, material.tokens.id, request)[1]
    assert newer.name in find_law(workspace, material.tokens.id, larger)[1]
    assert newer.name in find_law(workspace, material.tokens.id, replace(request, batch_rows=0))[1]


def test_too_little_time(material, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calibration, "LADDER", ((1, 64), (2, 64)))
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    with pytest.raises(ConfigError, match="too few"):
        calibrate(
            material.tokens,
            material.tokenizer,
            request,
            config=CalibrationConfig(minutes=0.001),
            workspace=Workspace(tmp_path),
        )
    for wrong in (
        {"minutes": 0.0},
        {"minutes": math.inf},
        {"minutes": 1e308},
        {"minutes": math.nan},
        {"decay_fraction": 1.5},
    ):
        with pytest.raises(ConfigError):
            CalibrationConfig(**wrong)


def test_no_validation_text(material, tmp_path, monkeypatch: pytest.MonkeyPatch):
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    real = calibration.TokenShards

    class Empty:
        num_tokens = 0

    monkeypatch.setattr(
        calibration, "TokenShards", lambda a, split: Empty() if split == "validation" else real(a, split)
    )
    with pytest.raises(DataError, match="validation text"):
        calibrate(material.tokens, material.tokenizer, request, workspace=Workspace(tmp_path))
