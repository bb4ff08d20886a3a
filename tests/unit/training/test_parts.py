"""PartsConfig: what is chosen becomes the model's fields."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models import ModelConfig
from bloomery.training import PretrainConfig
from bloomery.training.parts import FAST, FAST_PARTS, PartsConfig

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 16}


def test_options_are_fields_of_the_model():
    assert not PartsConfig() and PartsConfig(smear=True)
    parts = PartsConfig(squared_relu=True, smear=True, logit_softcap=15.0)
    config = ModelConfig(model_type="bloomery", **SIZES, **parts.options())
    assert not config.gated and config.hidden_act == "relu2" and config.smear and config.final_logit_softcapping == 15
    assert PartsConfig().options() == {
        "gated_mlp": True,
        "hidden_act": "silu",
        "final_logit_softcapping": None,
        **dict.fromkeys(("resid_lambdas", "x0_lambdas", "smear", "embed_norm"), False),
    }
    with pytest.raises(ConfigError, match="logit_softcap"):
        PartsConfig(logit_softcap=-1.0)


def test_fast_stands_for_a_set_of_settings():
    fast = PretrainConfig(fast=True).resolved()
    assert fast == fast.resolved() and not fast.fast
    assert fast.family == FAST["family"] == "bloomery" and fast.parts == FAST_PARTS
    assert PretrainConfig().resolved() == PretrainConfig()
    with pytest.raises(ConfigError, match="go together"):
        PretrainConfig(parts=PartsConfig(smear=True))
