"""A plan is an artifact that a run can follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.core.workspace import Workspace
from bloomery.tokenizer import Tokenizer
from bloomery.training import PretrainConfig, pretrain
from bloomery.training.optimizers import OptimizerConfig
from bloomery.training.planning.plan import read_plan
from bloomery.training.planning.plan_stage import publish_plan
from bloomery.training.pretrain_config import plan_request, planned_config


def test_published_copied_and_followed(material, tmp_path):
    workspace = Workspace(tmp_path / "home")
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    artifact, made = publish_plan(
        request, material.tokens, material.tokenizer, workspace=workspace, out=tmp_path / "plan.json"
    )
    assert artifact.kind == "plan" and read_plan(artifact.path) == read_plan(tmp_path / "plan.json") == made
    assert made.joules.known and made.tokens_artifact == material.tokens.id
    assert workspace.ledger.runs(stage="plan")[0]["state"] == "finished"
    # Sizes, steps and batch of the plan go before those of the config; what it predicted is what is scored.
    other = replace(material.small, steps=3, hidden_size=128, batch_rows=2)
    model = pretrain(
        material.corpus, material.tokenizer, tokens=material.tokens, config=other, plan=made, workspace=workspace
    )
    assert model.metrics["plan"] == made.to_dict()
    assert model.metrics["steps"] == 12 and model.config["hidden_size"] == 64
    assert model.metrics["plan_score"]["seconds"]["predicted"] == made.seconds.to_dict()


def test_a_place_that_cannot_be_written_costs_no_plan(material, tmp_path):
    workspace = Workspace(tmp_path / "home")
    given = (
        plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path)),
        material.tokens,
        material.tokenizer,
    )
    with pytest.raises(ArtifactError) as caught:
        publish_plan(*given, workspace=workspace, out=tmp_path / "nowhere" / "plan.json")
    kept = workspace.latest("plan")
    assert kept.name in caught.value.message and workspace.ledger.runs(stage="plan")[0]["state"] == "finished"
    _, made = publish_plan(*given, workspace=workspace, out=tmp_path)
    assert read_plan(tmp_path / "plan.json") == made


def test_a_plan_of_a_fast_model_needs_no_recipe(material, tmp_path):
    """Its steps were timed with an optimiser and batches of their own, so it has them; what a user sets goes before."""
    fast = replace(material.small, fast=True, first_batch=0.5)
    request = plan_request(fast, material.tokens, Tokenizer.load(material.tokenizer.path))
    _, made = publish_plan(request, material.tokens, material.tokenizer, workspace=Workspace(tmp_path))
    followed = planned_config(PretrainConfig(), made, material.tokens.id, material.tokenizer.id)
    assert followed.optimizer == made.optimizer == replace(OptimizerConfig(), **made.learning_rates)
    assert (followed.first_batch, followed.short_rows_fraction, followed.family) == (0.5, 0.4, "bloomery")
    own = PretrainConfig(optimizer=OptimizerConfig(matrix_momentum=0.9))
    kept = planned_config(own, made, material.tokens.id, material.tokenizer.id).optimizer
    assert kept == replace(own.optimizer, **made.learning_rates)
    earlier = replace(made, optimizer=None)  # of a version that did not write it down
    assert planned_config(PretrainConfig(), earlier.for_data("", ""), "", "").optimizer == replace(
        OptimizerConfig(), **made.learning_rates
    )


def test_a_plan_of_other_data_is_refused(material, tmp_path):
    workspace = Workspace(tmp_path / "home")
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    _, made = publish_plan(request, material.tokens, material.tokenizer, workspace=workspace)
    with pytest.raises(ConfigError, match="another corpus"):
        pretrain(
            material.corpus,
            material.tokenizer,
            tokens=material.tokens,
            plan=made.for_data("other", ""),
            workspace=workspace,
        )
