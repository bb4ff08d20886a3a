"""PretrainConfig: what makes no sense, what a result depends on, and plans followed to the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.core.errors import BloomeryError, ConfigError
from bloomery.tokenizer import Tokenizer
from bloomery.training import PretrainConfig, pretrain_inputs
from bloomery.training.optimizers import OptimizerConfig
from bloomery.training.parts import PartsConfig
from bloomery.training.planning.planner import plan as make_plan
from bloomery.training.pretrain_config import plan_request, planned_config


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": 64},
        {"warmup_fraction": 1.5},
        {"warmup_fraction": 0.6, "decay_fraction": 0.6},
        {"context_length": 2},
        {"steps": -1},
        {"minutes": float("nan")},
        {"checkpoint_seconds": float("inf")},
        {"learning_rate_scale": -1.0},
        {"learning_rate_scale": float("inf")},
        {"first_batch": 0.0},
        {"precision": "fp16"},
        {"spikes": "rollback"},
        {"family": "gpt2"},
        {"compile": True},
        {"minutes": float("nan")},
        {"minutes": -5.0},
        {"seed": -1},
        {"seed": 2**63},
        {"steps": 10**400},
        {"steps": -(10**400)},
        {"minutes": 1e308},
        {"minutes": 10**400},
        {"batch_rows": 10**30},
        {"checkpoint_seconds": float("nan")},
        {"checkpoint_every_steps": -1},
        {"num_attention_heads": -2},
        {"intermediate_size": -8},
        {"fast": True, "family": "llama"},
        {"fast": True, "bigram_vocab_size": 512},
        {"fast": True, "parts": PartsConfig(squared_relu=True)},
        {"family": "bloomery"},
        {"bigram_vocab_size": 512},
        {"family": "llama", "value_embeddings": True},
        {"family": "bloomery", "bigram_vocab_size": -1},
    ],
)
def test_configs_that_make_no_sense(wrong):
    with pytest.raises(BloomeryError):
        PretrainConfig(**wrong)


def test_rates_are_the_planners_where_nobody_sets_them(material):
    codec = Tokenizer.load(material.tokenizer.path)
    free = plan_request(material.small, material.tokens, codec)
    doubled = plan_request(replace(material.small, learning_rate_scale=2.0), material.tokens, codec)
    own = plan_request(replace(material.small, optimizer=OptimizerConfig(matrix_lr=0.01)), material.tokens, codec)
    assert free.scale_rates and not doubled.scale_rates and not own.scale_rates
    assert doubled.optimizer.matrix_lr == 0.04 and own.optimizer.matrix_lr == 0.01
    assert make_plan(own).learning_rate == 0.01 and make_plan(free).learning_rate == 0.02  # few steps


def test_the_key_holds_what_decides_the_result(material):
    base = pretrain_inputs(material.small, "t", "k")
    assert pretrain_inputs(material.small, "t", "k").key == base.key
    assert pretrain_inputs(replace(material.small, seed=1), "t", "k").key != base.key
    assert pretrain_inputs(material.small, "u", "k").key != base.key


@pytest.mark.parametrize("fast", [False, True])
def test_a_config_that_follows_a_plan_asks_for_the_same_model(material, fast):
    config = replace(material.small, fast=fast)
    made = make_plan(plan_request(config, material.tokens, Tokenizer.load(material.tokenizer.path)))
    followed = planned_config(config.resolved(), made, material.tokens.id, material.tokenizer.id)
    assert followed.steps == made.steps and (followed.family == "bloomery") == fast
    again = plan_request(followed, material.tokens, Tokenizer.load(material.tokenizer.path))
    assert again.base == made.model
    with pytest.raises(ConfigError, match="another corpus"):
        planned_config(config, replace(made, tokens_artifact="tokens-other"), material.tokens.id, "")
