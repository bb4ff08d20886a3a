"""ModelConfig: every key of config.json is read, known to make no difference, or refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.models import ModelConfig

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
# As published with the checkpoints of these names.
PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen3-0.6B": {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 151643,
        "eos_token_id": 151645,
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 1024,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "max_position_embeddings": 40960,
        "max_window_layers": 28,
        "model_type": "qwen3",
        "num_attention_heads": 16,
        "num_hidden_layers": 28,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "Llama-3.2-1B": {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2048,
        "initializer_range": 0.02,
        "intermediate_size": 8192,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 16,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0",
        "use_cache": True,
        "vocab_size": 128256,
    },
    "SmolLM2-135M": {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_act": "silu",
        "hidden_size": 576,
        "initializer_range": 0.041666666666666664,
        "intermediate_size": 1536,
        "is_llama_config": True,
        "max_position_embeddings": 8192,
        "model_type": "llama",
        "num_attention_heads": 9,
        "num_hidden_layers": 30,
        "num_key_value_heads": 3,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": 100000,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.1",
        "use_cache": True,
        "vocab_size": 49152,
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs(name: str):
    values = PUBLISHED[name]
    config = ModelConfig.from_hf(values)
    for key in ("hidden_size", "num_key_value_heads", "rope_theta", "tie_word_embeddings", "rms_norm_eps"):
        assert getattr(config, key) == values[key]
    assert config.head_dim == values.get("head_dim", values["hidden_size"] // values["num_attention_heads"])
    assert config.eos_token_id == (values["eos_token_id"],)
    assert (config.rope_scaling is None) == (values["rope_scaling"] is None)
    assert ModelConfig.from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (2,)),  # Llama's default
        ({"eos_token_id": None}, ()),
        ({"eos_token_id": 5}, (5,)),
        ({"eos_token_id": [5, 7]}, (5, 7)),
    ],
)
def test_end_ids(given: dict[str, Any], expected: tuple[int, ...]):
    config = ModelConfig.from_hf({**SMALL, **given})
    assert config.eos_token_id == expected
    assert ModelConfig.from_hf(config.to_hf()) == config


@pytest.mark.parametrize("family", ["llama", "qwen3"])
@pytest.mark.parametrize(
    "nulls",
    [{"eos_token_id": None}, {"bos_token_id": None}, {"num_key_value_heads": None}, {"rope_scaling": None}, {}],
)
def test_nulls_mean_what_they_mean_to_transformers(family: str, nulls: dict[str, Any]):
    from transformers import AutoConfig

    values = {**SMALL, "model_type": family, "num_attention_heads": 16, **nulls}
    ours, theirs = ModelConfig.from_hf(values), AutoConfig.for_model(**values)
    assert ours.bos_token_id == theirs.bos_token_id
    assert ours.eos_token_id == (() if theirs.eos_token_id is None else (theirs.eos_token_id,))
    assert (ours.num_key_value_heads, ours.head_dim) == (theirs.num_key_value_heads, theirs.head_dim)
    assert ModelConfig.from_hf(ours.to_hf()) == ours


@pytest.mark.parametrize(
    "key",
    [
        {"transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}},  # SmolLM2-135M-Instruct's
        {"use_cache": False},
        {"attention_dropout": 0.0},
        {"quantization_config": None},
        {"sliding_window": None},
        {"a_key_of_tomorrow": None},  # null is not set
        {"layer_types": ["full_attention", "full_attention"]},
    ],
    ids=lambda key: next(iter(key)),
)
def test_keys_without_effect(key: dict[str, Any]):
    assert ModelConfig.from_hf({**SMALL, **key}) == ModelConfig.from_hf(SMALL)


def test_a_window_that_is_off_does_nothing():
    qwen3 = {**SMALL, "model_type": "qwen3", "head_dim": 16}
    windowed = {**qwen3, "sliding_window": 32, "max_window_layers": 1}
    assert ModelConfig.from_hf({**windowed, "use_sliding_window": False}) == ModelConfig.from_hf(qwen3)
    on = ModelConfig.from_hf({**windowed, "use_sliding_window": True})
    assert [on.window(layer) for layer in range(on.num_hidden_layers)] == [None, *[32] * (on.num_hidden_layers - 1)]
    with pytest.raises(ConfigError, match="use_sliding_window"):
        ModelConfig.from_hf({**windowed, "layer_types": ["sliding_attention"] * on.num_hidden_layers})


@pytest.mark.parametrize("keys", ["older", "newer", "both"])
@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "truncate": False},
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.5] * 8},
    ],
    ids=lambda scaling: scaling["rope_type"],
)
def test_scalings_survive_a_round_trip(scaling: dict[str, Any], keys: str):
    config = ModelConfig.from_hf({**SMALL, "rope_theta": 5e5, "rope_scaling": scaling})
    written = config.to_hf()
    if keys == "older":
        del written["rope_parameters"]
    elif keys == "newer":
        del written["rope_scaling"], written["rope_theta"]
    assert ModelConfig.from_hf(written) == config


def test_unknown_keys_are_all_named():
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_hf({**SMALL, "logit_softcapping": 30.0, "num_experts": 8})
    assert "logit_softcapping, num_experts" in caught.value.message


@pytest.mark.parametrize(
    "changed",
    [
        {"hidden_act": "geluu"},
        {"attention_dropout": 0.1},
        {"use_sliding_window": True},
        {"layer_types": ["sliding_attention", "full_attention"]},
        {"layer_types": "full_attention"},
        {"quantization_config": {"bits": 4}},
        {"model_type": "qwen2", "use_mrope": True},
        {"model_type": "phi3", "lm_head_bias": True},
        {"rope_scaling": {"type": "dynamic"}},
        {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0] * 7}},
        {"model_type": "phi3", "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"value_embedding_layers": [1]},  # bloomery's own
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "surprise": 1}},
        {"rope_scaling": "linear"},
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        {"rope_theta": 1.0, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
        {"rope_theta": True},
        {"sliding_window": 32},  # Qwen3's
        {"num_key_value_heads": 3},
        {"num_attention_heads": 6, "head_dim": 16},
        {"hidden_size": None},
        {"attention_bias": None},
        {"head_dim": 15},
        {"hidden_size": 0},
        {"hidden_size": "64"},
        {"vocab_size": 1 << 40},
        {"rms_norm_eps": 0.0},
        {"rope_theta": float("inf")},
        {"eos_token_id": ["x"]},
        {"model_type": "gpt2"},  # which has no head_dim
    ],
)
def test_unsupported_values(changed: dict[str, Any]):
    with pytest.raises(ConfigError):
        ModelConfig.from_hf({**SMALL, **changed})


def test_older_and_newer_rotary_keys_agree():
    newer = ModelConfig.from_hf({**SMALL, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5}})
    older = ModelConfig.from_hf({**SMALL, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert newer == older and newer.rope_theta == 5e5


@pytest.mark.parametrize(
    "two",
    [
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}},
        {
            "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "linear", "factor": 4.0},
        },
        {"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    ],
)
def test_rotary_keys_that_contradict_each_other(two: dict[str, Any]):
    with pytest.raises(ConfigError, match=r"contradict each other|given as 10000\.0 and as 500000\.0"):
        ModelConfig.from_hf({**SMALL, **two})


def test_mlp_bias_belongs_to_llama():
    config = ModelConfig.from_hf({**SMALL, "mlp_bias": True})
    assert config.mlp_bias
    with pytest.raises(ConfigError, match="mlp_bias"):
        replace(config, model_type="qwen3")
    with pytest.raises(ConfigError, match="mlp_bias"):
        ModelConfig.from_hf({**SMALL, "model_type": "qwen3", "mlp_bias": True})


def test_phi3_keeps_the_original_context_beside_the_table():
    """As in Phi-3-mini-128k-instruct's config.json, and as older ones spelt it."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    values = {**SMALL, "model_type": "phi3", "max_position_embeddings": 131072}
    for kind in ("longrope", "su", "yarn"):
        given = {**values, "original_max_position_embeddings": 2048, "rope_scaling": {"type": kind, **factors}}
        config = ModelConfig.from_hf(given)
        assert config.rope_scaling is not None and config.rope_scaling.rope_type == "longrope"
        assert config.rope_scaling.original_max_position_embeddings == 2048
        assert config.to_hf()["original_max_position_embeddings"] == 2048
        assert ModelConfig.from_hf(config.to_hf()) == config
    scaling = ModelConfig.from_hf({**values, "rope_scaling": {"type": "longrope", **factors}}).rope_scaling
    assert scaling is not None and scaling.original_max_position_embeddings == 4096  # the reference's default
    with pytest.raises(ConfigError, match="is given as 4096 and as 32"):
        ModelConfig.from_hf(
            {**values, "rope_scaling": {"type": "longrope", **factors, "original_max_position_embeddings": 32}}
        )


def test_dynamic_scaling_lengthens_the_context():
    config = ModelConfig.from_hf({**SMALL, "rope_scaling": {"type": "dynamic", "factor": 2.5}})
    assert (config.max_position_embeddings, config.context_length) == (64, 160)
    linear = ModelConfig.from_hf({**SMALL, "rope_scaling": {"type": "linear", "factor": 2.5}})
    assert linear.context_length == 64  # there max_position_embeddings is the lengthened one


def test_bloom_560m():
    """The keys of the published config.json."""
    published = {
        "architectures": ["BloomForCausalLM"],
        "apply_residual_connection_post_layernorm": False,
        "attention_dropout": 0.0,
        "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_dropout": 0.0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "masked_softmax_fusion": True,
        "model_type": "bloom",
        "n_embed": 1024,
        "n_inner": None,
        "n_layer": 24,
        "num_attention_heads": 16,
        "offset_alibi": 100,
        "pad_token_id": 3,
        "pretraining_tp": 1,
        "seq_length": 2048,
        "skip_bias_add": True,
        "skip_bias_add_qkv": False,
        "unk_token_id": 0,
        "use_cache": True,
        "vocab_size": 250880,
    }
    config = ModelConfig.from_hf(published)
    assert (config.hidden_size, config.intermediate_size, config.head_dim) == (1024, 4096, 64)
    assert (config.num_hidden_layers, config.num_key_value_heads, config.context_length) == (24, 16, 2048)
    assert ModelConfig.from_hf(config.to_hf()) == config
    assert config.to_hf().keys() - published.keys() == {"hidden_size", "n_head", "tie_word_embeddings"}
    with pytest.raises(ConfigError, match="apply_residual"):
        ModelConfig.from_hf({**published, "apply_residual_connection_post_layernorm": True})
    with pytest.raises(ConfigError, match="4 x hidden_size"):
        replace(config, intermediate_size=100)


@pytest.mark.parametrize(
    "changed",
    [
        {"value_embedding_layers": (2,)},
        {"value_embedding_layers": (1, 0)},
        {"value_embedding_layers": (1, 1)},
        {"bigram_vocab_size": -1},
        {"bigram_vocab_size": 1 << 30},
    ],
)
def test_embeddings_of_our_own(changed: dict[str, Any]):
    own = {"value_embedding_layers": [0, 1], "bigram_vocab_size": 50}
    whole = ModelConfig.from_hf({**SMALL, "model_type": "bloomery", "head_dim": 16, **own})
    assert ModelConfig.from_hf(whole.to_hf()) == whole
    with pytest.raises(ConfigError, match=next(iter(changed))):
        replace(whole, **changed)
    with pytest.raises(ConfigError, match="has none of them"):
        replace(whole, value_embedding_layers=(), bigram_vocab_size=0)
    with pytest.raises(ConfigError, match=r"value embeddings \(in layers 0, 1\) and bigram embeddings"):
        whole.check_published()
    with pytest.raises(ConfigError, match=r"family qwen3 has no (value_embedding_layers|bigram_vocab_size)"):
        replace(whole, model_type="qwen3")


PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "gated_mlp": ({"gated_mlp": False, "hidden_act": "relu2"}, "a plain feed-forward"),
    "resid_lambdas": ({"resid_lambdas": True}, "residual lambdas"),
    "x0_lambdas": ({"x0_lambdas": True}, "x0 lambdas"),
    "smear": ({"smear": True}, "smeared embeddings"),
    "embed_norm": ({"embed_norm": True}, "normalised embeddings"),
    "final_logit_softcapping": ({"final_logit_softcapping": 15.0}, "capped logits"),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_our_own_are_named_where_others_do_not_run_them(name: str):
    options, words = PARTS[name]
    config = ModelConfig.from_hf({**SMALL, "model_type": "bloomery", "head_dim": 16, **options})
    assert ModelConfig.from_hf(config.to_hf()) == config and config.own_parts == (words,)
    with pytest.raises(ConfigError, match=f"do not run a decoder with {words}"):
        config.check_published()
    with pytest.raises(ConfigError, match=f"family llama has no {name}|not supported for llama: {name}"):
        ModelConfig.from_hf({**SMALL, "model_type": "llama", **options})


def test_several_parts_are_listed():
    options = {"smear": True, "x0_lambdas": True, "value_embedding_layers": [1]}
    config = ModelConfig.from_hf({**SMALL, "model_type": "bloomery", "head_dim": 16, **options})
    expected = r"value embeddings \(in layers 1\), x0 lambdas and smeared embeddings"
    with pytest.raises(ConfigError, match=expected):
        config.check_published()
    assert config.looks_back and not ModelConfig.from_hf(SMALL).looks_back


@pytest.mark.parametrize(
    "published",
    [
        {"model_type": "qwen2", "use_mrope": False, "max_window_layers": 21, "use_sliding_window": False},  # Qwen2.5
        {"model_type": "smollm3", "pretraining_tp": 2, "max_window_layers": 28, "use_cache": False},  # SmolLM3-3B
        {"model_type": "phi3", "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False, "mlp_bias": False},
        {"model_type": "llama", "max_sequence_length": 2048, "pad_token_id": -1, "tokenizer_class": "LlamaTokenizer"},
    ],
    ids=lambda one: one["model_type"],
)
def test_keys_of_published_files_that_change_nothing(published: dict[str, Any]):
    """As they stand in files on the hub; transformers reads none of them."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    plain = {"model_type": published["model_type"], **sizes, "pad_token_id": published.get("pad_token_id")}
    assert ModelConfig.from_hf({**plain, **published}) == ModelConfig.from_hf(plain)
