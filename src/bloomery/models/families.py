"""Families: what tells one published decoder from another, as short descriptions.

A family is read from `model_type` in config.json. All of these run the same `Decoder`; a description says which parts
it has, how its config's keys are called, what absent keys mean, and how its tensors are named. This module does not
know tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import ConfigError, nearest
from bloomery.models.family_weights import bloom_rules, gpt2_rules, gpt_neox_rules, mixtral_rules, phi3_rules
from bloomery.models.naming import Rule

if TYPE_CHECKING:
    from bloomery.models.config import ModelConfig

FULL, SLIDING = "full_attention", "sliding_attention"
LayerTypes = Callable[[Mapping[str, Any], int], list[str]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """`defaults` are what the reference implementation takes for keys that a config.json leaves out."""

    model_type: str
    architecture: str
    defaults: Mapping[str, Any]
    head_dim_follows_hidden_size: bool = True
    """An absent head_dim is hidden_size / num_attention_heads, which the reference demands to be whole even where
    head_dim is given (Llama); else it has a default of its own (Qwen3)."""
    norm: str = "rms"
    """A kind that `make_norm` knows."""
    placement: str = "pre"
    """Where the norms stand; see `Block`."""
    gated: bool = True
    positions: str = "rotary"
    """"rotary", "learned" or "alibi"."""
    embedding_norm: bool = False
    """Embeddings are normalised before the first block (BLOOM)."""
    qk_norm: str | None = None
    """None, "head" or "projection"; see `Attention`."""
    qkv_bias: bool | None = None
    """None: the config's attention_bias says."""
    output_bias: bool | None = None
    """None: the config's attention_bias says."""
    scales_embeddings: bool = False
    """Embeddings are multiplied by the square root of hidden_size (Gemma)."""
    fields: frozenset[str] = frozenset()
    """Fields of ModelConfig that its config.json has beside those that every family has."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Keys of its config.json that have another name here."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Keys that are read as another, and never written."""
    ignored: frozenset[str] = frozenset()
    """Keys that do not change what its forward pass computes in evaluation."""
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keys that are supported at these values only."""
    layer_types: LayerTypes | None = None
    """The kind of each layer from the other keys, where config.json does not list them; None: all full."""
    window_keys: bool = False
    """use_sliding_window and max_window_layers stand beside sliding_window (Qwen)."""
    rope_types: tuple[str, ...] | None = None
    """The rotary scalings that it may have; None: all."""
    original_context: int | None = None
    """Its config.json keeps original_max_position_embeddings beside the rotary table, and this is the default."""
    published: bool = True
    """Others run it; if not, it is bloomery's own."""
    lists_layer_types: bool = False
    """Its config.json lists layer_types."""
    fixed: frozenset[str] = frozenset()
    """Fields of ModelConfig that its config.json does not have: they are as in `defaults` or follow from others."""
    rules: Callable[[ModelConfig], Iterable[Rule]] = lambda config: ()
    base_prefix: str = ""
    """What a file saved without the head leaves out of every name."""


def _all_sliding(values: Mapping[str, Any], layers: int) -> list[str]:
    return [SLIDING if values.get("sliding_window") else FULL] * layers


def _sliding_from(values: Mapping[str, Any], layers: int) -> list[str]:
    first = values.get("max_window_layers", 28) if values.get("use_sliding_window") else layers
    return [SLIDING if layer >= first else FULL for layer in range(layers)]


def _every_second(values: Mapping[str, Any], layers: int) -> list[str]:
    return [SLIDING if (layer + 1) % 2 else FULL for layer in range(layers)]


def _patterned(values: Mapping[str, Any], layers: int) -> list[str]:
    every = values.get("sliding_window_pattern") or values.get("_sliding_window_pattern") or 6
    if isinstance(every, bool) or not isinstance(every, int):
        raise ConfigError(f'"sliding_window_pattern" should be a number, not {every!r:.40}')
    return [SLIDING if (layer + 1) % every else FULL for layer in range(layers)]


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
_LLAMA = {"vocab_size": 32000, "intermediate_size": 11008, "max_position_embeddings": 2048}
_MISTRAL = {"vocab_size": 32000, "intermediate_size": 14336, "max_position_embeddings": 131072}
_QWEN = {"vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768}
_GEMMA = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "hidden_act": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "eos_token_id": 1,
    "bos_token_id": 2,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
_BOS_EOS = {"bos_token_id": 1, "eos_token_id": 2}
_SOFTCAPS = {"attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"}
_EXPERTS = {"num_experts", "num_experts_per_tok"}
_NOT_ROTARY = frozenset({"rope_theta", "rope_scaling", "rope_parameters"})
_ROUTER_TRAINING = {"output_router_logits", "router_aux_loss_coef", "router_jitter_noise"}

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family(
            model_type="llama",
            architecture="LlamaForCausalLM",
            fields=frozenset({"mlp_bias"}),
            defaults={**_COMMON, **_LLAMA, **_BOS_EOS},
        ),
        Family(
            model_type="mistral",
            architecture="MistralForCausalLM",
            qkv_bias=False,
            output_bias=False,
            fields=frozenset({"sliding_window"}),
            fixed=frozenset({"attention_bias"}),
            only={"attention_bias": (False, None)},
            layer_types=_all_sliding,
            defaults={**_COMMON, **_MISTRAL, **_BOS_EOS, "num_key_value_heads": 8, "sliding_window": 4096},
        ),
        Family(
            model_type="qwen2",
            lists_layer_types=True,
            architecture="Qwen2ForCausalLM",
            qkv_bias=True,
            output_bias=False,
            fields=frozenset({"sliding_window"}),
            fixed=frozenset({"attention_bias"}),
            only={"attention_bias": (None,), "use_mrope": (False, None)},
            window_keys=True,
            layer_types=_sliding_from,
            defaults={**_COMMON, **_QWEN, "num_key_value_heads": 32, "sliding_window": 4096},
        ),
        Family(
            model_type="qwen3",
            lists_layer_types=True,
            architecture="Qwen3ForCausalLM",
            qk_norm="head",
            head_dim_follows_hidden_size=False,
            fields=frozenset({"sliding_window"}),
            window_keys=True,
            layer_types=_sliding_from,
            defaults={**_COMMON, **_QWEN, "num_key_value_heads": 32, "head_dim": 128, "sliding_window": 4096},
        ),
        Family(
            model_type="qwen3_moe",
            architecture="Qwen3MoeForCausalLM",
            qk_norm="head",
            fields=frozenset(
                {"moe_intermediate_size", "norm_topk_prob", "decoder_sparse_step", "mlp_only_layers"} | _EXPERTS
            ),
            aliases={"num_local_experts": "num_experts"},
            ignored=frozenset(_ROUTER_TRAINING),
            only={"use_sliding_window": (False, None)},
            window_keys=True,
            defaults={
                **_COMMON,
                **_QWEN,
                "hidden_size": 2048,
                "intermediate_size": 6144,
                "num_hidden_layers": 24,
                "num_key_value_heads": 4,
                "moe_intermediate_size": 768,
                "num_experts": 128,
                "num_experts_per_tok": 8,
            },
        ),
        Family(
            model_type="mixtral",
            architecture="MixtralForCausalLM",
            qkv_bias=False,
            output_bias=False,
            fields=frozenset({"sliding_window"} | _EXPERTS),
            renamed={"num_local_experts": "num_experts"},
            ignored=frozenset(_ROUTER_TRAINING),
            fixed=frozenset({"attention_bias"}),
            only={"attention_bias": (False, None)},
            layer_types=_all_sliding,
            rules=mixtral_rules,
            defaults={
                **_COMMON,
                **_MISTRAL,
                **_BOS_EOS,
                "rms_norm_eps": 1e-5,
                "num_key_value_heads": 8,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "norm_topk_prob": True,
                "rope_theta": 1e6,
            },
        ),
        Family(
            model_type="gemma2",
            lists_layer_types=True,
            architecture="Gemma2ForCausalLM",
            head_dim_follows_hidden_size=False,
            norm="rms_from_one",
            placement="both",
            scales_embeddings=True,
            fields=frozenset({"sliding_window"} | _SOFTCAPS),
            renamed={"hidden_activation": "hidden_act"},
            ignored=frozenset({"hidden_act"}),
            only={"use_bidirectional_attention": (None, False)},
            layer_types=_every_second,
            defaults={**_COMMON, **_GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        ),
        Family(
            model_type="gemma3_text",
            lists_layer_types=True,
            architecture="Gemma3ForCausalLM",
            head_dim_follows_hidden_size=False,
            norm="rms_from_one",
            placement="both",
            qk_norm="head",
            scales_embeddings=True,
            fields=frozenset({"sliding_window", "rope_local_base_freq"} | _SOFTCAPS),
            renamed={"hidden_activation": "hidden_act"},
            ignored=frozenset({"hidden_act", "sliding_window_pattern", "_sliding_window_pattern"}),
            only={"use_bidirectional_attention": (None, False)},
            layer_types=_patterned,
            defaults={
                **_COMMON,
                **_GEMMA,
                "vocab_size": 262208,
                "max_position_embeddings": 131072,
                "rope_theta": 1e6,
                "rope_local_base_freq": 1e4,
            },
        ),
        Family(
            model_type="smollm3",
            architecture="SmolLM3ForCausalLM",
            fields=frozenset({"sliding_window", "no_rope_layers", "mlp_bias"}),
            only={"use_sliding_window": (False, None)},
            window_keys=True,
            defaults={
                **_COMMON,
                "vocab_size": 128256,
                "hidden_size": 2048,
                "intermediate_size": 11008,
                "num_hidden_layers": 36,
                "num_attention_heads": 16,
                "num_key_value_heads": 4,
                "max_position_embeddings": 32768,
                "rope_theta": 2e6,
                "bos_token_id": 128000,
                "eos_token_id": 128001,
                "tie_word_embeddings": True,
            },
        ),
        Family(
            model_type="olmo2",
            architecture="Olmo2ForCausalLM",
            placement="output",
            qk_norm="projection",
            defaults={
                **_COMMON,
                **_LLAMA,
                "vocab_size": 50304,
                "rms_norm_eps": 1e-5,
                "eos_token_id": 50279,
            },
        ),
        Family(
            model_type="phi3",
            architecture="Phi3ForCausalLM",
            qkv_bias=False,
            output_bias=False,
            fields=frozenset({"sliding_window", "partial_rotary_factor"}),
            ignored=frozenset({"resid_pdrop", "embd_pdrop"}),
            rope_types=("longrope",),
            original_context=4096,
            fixed=frozenset({"attention_bias"}),
            only={
                "attention_bias": (False, None),
                # What Phi-4-mini's file adds says that there is nothing new.
                "full_attn_mod": (1, None),
                "interpolate_factor": (1, None),
                "lm_head_bias": (False, None),
                "mlp_bias": (False, None),
            },
            layer_types=_all_sliding,
            rules=phi3_rules,
            defaults={
                **_COMMON,
                "vocab_size": 32064,
                "hidden_size": 3072,
                "intermediate_size": 8192,
                "rms_norm_eps": 1e-5,
                "max_position_embeddings": 4096,
                "bos_token_id": 1,
                "eos_token_id": 32000,
            },
        ),
        Family(
            model_type="gpt2",
            architecture="GPT2LMHeadModel",
            norm="layer",
            gated=False,
            positions="learned",
            fixed=_NOT_ROTARY | {"num_key_value_heads", "head_dim", "attention_bias", "attention_dropout"},
            renamed={
                "n_positions": "max_position_embeddings",
                "n_embd": "hidden_size",
                "n_layer": "num_hidden_layers",
                "n_head": "num_attention_heads",
                "n_inner": "intermediate_size",
                "activation_function": "hidden_act",
                "layer_norm_epsilon": "rms_norm_eps",
            },
            ignored=frozenset(
                {"n_ctx", "resid_pdrop", "embd_pdrop", "attn_pdrop", "task_specific_params"}
                | {f"summary_{part}" for part in ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")}
            ),
            only={
                "scale_attn_weights": (True,),
                "scale_attn_by_inverse_layer_idx": (False,),
                "add_cross_attention": (False,),
                "reorder_and_upcast_attn": (False, True),
            },
            rules=gpt2_rules,
            base_prefix="transformer.",
            defaults={
                "vocab_size": 50257,
                "max_position_embeddings": 1024,
                "hidden_size": 768,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "hidden_act": "gelu_new",
                "rms_norm_eps": 1e-5,
                "initializer_range": 0.02,
                "bos_token_id": 50256,
                "eos_token_id": 50256,
                "tie_word_embeddings": True,
                "attention_bias": True,
                "mlp_bias": True,
            },
        ),
        Family(
            model_type="gpt_neox",
            architecture="GPTNeoXForCausalLM",
            norm="layer",
            gated=False,
            fixed=frozenset({"num_key_value_heads", "head_dim"}),
            fields=frozenset({"partial_rotary_factor", "use_parallel_residual"}),
            renamed={
                "rotary_pct": "partial_rotary_factor",
                "rotary_emb_base": "rope_theta",
                "layer_norm_eps": "rms_norm_eps",
            },
            ignored=frozenset({"hidden_dropout", "classifier_dropout"}),
            only={"is_decoder": (False, True)},
            rules=gpt_neox_rules,
            base_prefix="gpt_neox.",
            defaults={
                **_COMMON,
                "vocab_size": 50432,
                "hidden_size": 6144,
                "num_hidden_layers": 44,
                "num_attention_heads": 64,
                "intermediate_size": 24576,
                "hidden_act": "gelu",
                "max_position_embeddings": 2048,
                "rms_norm_eps": 1e-5,
                "bos_token_id": 0,
                "eos_token_id": 2,
                "partial_rotary_factor": 0.25,
                "use_parallel_residual": True,
                "attention_bias": True,
                "mlp_bias": True,
            },
        ),
        Family(
            model_type="bloom",
            architecture="BloomForCausalLM",
            norm="layer",
            gated=False,
            positions="alibi",
            embedding_norm=True,
            fixed=_NOT_ROTARY
            | {"num_key_value_heads", "head_dim", "attention_bias", "intermediate_size", "hidden_act"},
            renamed={
                "n_layer": "num_hidden_layers",
                "n_head": "num_attention_heads",
                "layer_norm_epsilon": "rms_norm_eps",
                # transformers has no use for it: positions by distance have no end.
                "seq_length": "max_position_embeddings",
            },
            aliases={"n_embed": "hidden_size"},
            ignored=frozenset(
                {"hidden_dropout", "attention_softmax_in_fp32", "bias_dropout_fusion", "masked_softmax_fusion"}
                | {"offset_alibi", "skip_bias_add", "skip_bias_add_qkv", "unk_token_id"}
                | {"slow_but_exact"}  # the order of a sum
            ),
            only={"apply_residual_connection_post_layernorm": (False,), "attention_dropout": (0, 0.0)},
            rules=bloom_rules,
            base_prefix="transformer.",
            defaults={
                "vocab_size": 250880,
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 8,
                "max_position_embeddings": 2048,
                "hidden_act": "gelu_pytorch_tanh",
                "rms_norm_eps": 1e-5,
                "initializer_range": 0.02,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "tie_word_embeddings": True,
                "attention_bias": True,
                "mlp_bias": True,
            },
        ),
        Family(
            model_type="bloomery",
            architecture="BloomeryForCausalLM",
            published=False,
            qk_norm="head",
            head_dim_follows_hidden_size=False,
            fields=frozenset(
                {"value_embedding_layers", "bigram_vocab_size", "final_logit_softcapping"}
                | {"gated_mlp", "resid_lambdas", "x0_lambdas", "smear", "embed_norm"}
            ),
            defaults={**_COMMON, **_QWEN, "head_dim": 128},
        ),
    )
}


def family_of(model_type: object) -> Family:
    """The family of a `model_type`; ConfigError with the nearest known one."""
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ConfigError(f"unsupported model_type {model_type!r:.60}", hint=nearest(str(model_type), FAMILIES))
    return family
