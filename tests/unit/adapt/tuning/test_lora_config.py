"""What adapters' configs say, against PEFT's reading of them."""

from __future__ import annotations

import pytest

from bloomery.adapt.tuning.lora_config import LoraConfig, shortest_names
from bloomery.core.errors import ConfigError, DataError
from bloomery.models.adapter_config import AdapterConfig

LAYERS = ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.0.mlp.up_proj", "lm_head"]


def test_there_and_back():
    config = LoraConfig(r=3, lora_alpha=5, target_modules=("q_proj",), use_rslora=True, rank_pattern={"q_proj": 2})
    assert LoraConfig.of(config.published()) == config
    everything = LoraConfig()
    assert everything.published().target_modules == "all-linear"
    assert LoraConfig.of(everything.published()) == everything
    pattern = LoraConfig(target_modules=(r"re:.*q_proj",))
    assert pattern.published().targets(LAYERS) == LAYERS[:2]
    assert LoraConfig.of(pattern.published()) == pattern


def test_document_is_peft_s():
    """PEFT makes a config of it and our reader the same one."""
    from peft import LoraConfig as PeftConfig

    config = LoraConfig(r=3, lora_alpha=5, target_modules=("q_proj",), use_dora=True)
    document = config.document(LAYERS[:2], LAYERS, base="somewhere", task="CAUSAL_LM")
    theirs = PeftConfig(**{key: value for key, value in document.items() if key != "peft_type"})
    assert (theirs.r, theirs.lora_alpha, theirs.target_modules, theirs.use_dora) == (3, 5, {"q_proj"}, True)
    assert AdapterConfig.from_peft(document).target_modules == ("q_proj",)


def test_names():
    assert shortest_names(LAYERS[:2], LAYERS) == ["q_proj"]
    assert shortest_names(LAYERS[:1], LAYERS) == LAYERS[:1]


def test_mistakes():
    with pytest.raises(ConfigError, match="from 1 to"):
        LoraConfig(r=0)
    with pytest.raises(ConfigError, match="below 1"):
        LoraConfig(lora_dropout=1.0)
    with pytest.raises(ConfigError, match="names no layer"):
        LoraConfig(target_modules=())
    with pytest.raises((ConfigError, DataError)):
        LoraConfig.of(AdapterConfig(target_modules=("q_proj",), layers_pattern=("layers",)))
