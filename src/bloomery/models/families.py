"""Families: what tells one published decoder from another, as short descriptions.

A family is read from `model_type` in config.json. All of these run the same `Decoder`; a description says how its
config's absent keys are to be read and which parts differ. This module does not know tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class Family:
    """`defaults` are what the reference implementation takes for keys that a config.json leaves out."""

    model_type: str
    architecture: str
    qk_norm: bool
    head_dim_follows_hidden_size: bool
    """An absent head_dim is hidden_size / num_attention_heads, which the reference demands to be whole even where
    head_dim is given (Llama); else it has a default of its own (Qwen3)."""
    mlp_bias_key: bool
    """The family's config has `mlp_bias`."""
    sliding_window_keys: bool
    """The family's config has `sliding_window` and the like, which do nothing while use_sliding_window is false."""
    output_bias_follows_attention_bias: bool
    """attention_bias gives o_proj a bias too."""
    defaults: Mapping[str, Any]


_COMMON: dict[str, Any] = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "initializer_range": 0.02,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
}

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            model_type="qwen3",
            architecture="Qwen3ForCausalLM",
            qk_norm=True,
            head_dim_follows_hidden_size=False,
            mlp_bias_key=False,
            sliding_window_keys=True,
            output_bias_follows_attention_bias=True,
            defaults={
                **_COMMON,
                "vocab_size": 151936,
                "intermediate_size": 22016,
                "num_key_value_heads": 32,
                "head_dim": 128,
                "max_position_embeddings": 32768,
            },
        ),
        Family(
            model_type="llama",
            architecture="LlamaForCausalLM",
            qk_norm=False,
            head_dim_follows_hidden_size=True,
            mlp_bias_key=True,
            sliding_window_keys=False,
            output_bias_follows_attention_bias=True,
            defaults={
                **_COMMON,
                "vocab_size": 32000,
                "intermediate_size": 11008,
                "max_position_embeddings": 2048,
                "bos_token_id": 1,
                "eos_token_id": 2,
            },
        ),
    )
}


def family_of(model_type: object) -> Family:
    """The family of a `model_type`; ConfigError with the nearest known one."""
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ConfigError(f"unsupported model_type {model_type!r:.60}", hint=nearest(str(model_type), FAMILIES))
    return family
