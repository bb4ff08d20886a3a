"""Rules name exactly the parameters that a model of the family has (the golden tests compare the numbers)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder

SIZES: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
CASES = {
    "gpt2": {"n_positions": 8},
    "gpt_neox": {"intermediate_size": 24, "rotary_pct": 0.5},
    "phi3": {"intermediate_size": 24, "num_key_value_heads": 2},
    "mixtral": {"intermediate_size": 24, "num_key_value_heads": 2, "num_local_experts": 3},
}


@pytest.mark.parametrize("family", sorted(CASES))
def test_rules_and_parameters_match(family: str):
    config = ModelConfig.from_hf({"model_type": family, **SIZES, **CASES[family]})
    with torch.device("meta"):
        parameters = dict(Decoder(config).named_parameters())
    named = [name for rule in config.names().rules for name in rule.ours]
    assert len(named) == len(set(named))
    assert set(named) <= parameters.keys() | {"lm_head.weight"}
    theirs = [rule.theirs for rule in config.names().rules]
    assert len(theirs) == len(set(theirs))
    if family in ("gpt2", "gpt_neox"):
        assert set(named) | {"lm_head.weight"} >= parameters.keys()
