"""GGUF families: every family of decoders is described, and says which layers llama.cpp lets slide."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError
from bloomery.engine.gguf_families import GGUF_FAMILIES, context_of, gguf_family, slides_otherwise
from bloomery.models import ModelConfig
from bloomery.models.families import FAMILIES

models = runpy.run_path(str(Path(__file__).parents[2] / "gguf_models.py"))


def test_every_family_that_we_have():
    import gguf

    assert GGUF_FAMILIES.keys() | {"bloomery"} == FAMILIES.keys()  # which is our own, and refused by name
    known = set(gguf.MODEL_ARCH_NAMES.values())
    assert {family.architecture for family in GGUF_FAMILIES.values()} <= known
    assert {family for family, _ in models["CASES"].values()} == GGUF_FAMILIES.keys()  # and each is tried


def _config(family: str, **changes: object) -> ModelConfig:
    return ModelConfig.from_hf({"model_type": family, **models["SIZES"], "vocab_size": 300, **changes})


def test_windows():
    mistral = _config("mistral", sliding_window=32)
    assert context_of(mistral, gguf_family(mistral)) == 32
    assert context_of(_config("mistral", sliding_window=None), gguf_family(mistral)) == 256
    gemma = _config("gemma2", query_pre_attn_scalar=8, sliding_window=16)
    family = gguf_family(gemma)
    assert context_of(gemma, family) == 256 and not slides_otherwise(gemma, family)
    turned = _config(
        "gemma2",
        query_pre_attn_scalar=8,
        sliding_window=16,
        layer_types=["full_attention", "sliding_attention"] * 2,
    )
    assert slides_otherwise(turned, family)


def test_what_it_lacks_is_one_line_with_a_hint():
    with pytest.raises(ConfigError) as caught:
        gguf_family(_config("llama", hidden_act="gelu"))
    assert "\n" not in caught.value.one_line() and caught.value.hint
