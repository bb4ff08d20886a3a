"""Family weights: rules for the published families whose tensors are called or laid out otherwise than Llama's.

Each function takes the model's config and gives one `Rule` for each such tensor. This module does not know files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bloomery.models.naming import Rule, interleaved, renamed, stacked, transposed

if TYPE_CHECKING:
    from bloomery.models.config import ModelConfig

_QKV = ("q_proj", "k_proj", "v_proj")


def _both(theirs: str, ours: str) -> Iterator[Rule]:
    for part in ("weight", "bias"):
        yield renamed(f"{theirs}.{part}", f"{ours}.{part}")


def _qkv_sizes(config: ModelConfig) -> tuple[int, int, int]:
    inner = config.num_attention_heads * config.head_dim
    kv_inner = config.num_key_value_heads * config.head_dim
    return inner, kv_inner, kv_inner


def gpt2_rules(config: ModelConfig) -> Iterator[Rule]:
    """Matrices lie (input, output); queries, keys and values in one."""
    yield renamed("transformer.wte.weight", "model.embed_tokens.weight")
    yield renamed("transformer.wpe.weight", "model.embed_positions.weight")
    yield from _both("transformer.ln_f", "model.norm")
    for layer in range(config.num_hidden_layers):
        theirs, ours = f"transformer.h.{layer}", f"model.layers.{layer}"
        yield from _both(f"{theirs}.ln_1", f"{ours}.input_layernorm")
        yield from _both(f"{theirs}.ln_2", f"{ours}.post_attention_layernorm")
        for part in ("weight", "bias"):
            names = [f"{ours}.self_attn.{name}.{part}" for name in _QKV]
            transpose = part == "weight"
            yield stacked(f"{theirs}.attn.c_attn.{part}", names, _qkv_sizes(config), transpose=transpose)
            for old, new in (
                ("attn.c_proj", "self_attn.o_proj"),
                ("mlp.c_fc", "mlp.up_proj"),
                ("mlp.c_proj", "mlp.down_proj"),
            ):
                rule = transposed if part == "weight" else renamed
                yield rule(f"{theirs}.{old}.{part}", f"{ours}.{new}.{part}")


def gpt_neox_rules(config: ModelConfig) -> Iterator[Rule]:
    """Queries, keys and values lie head by head in one matrix."""
    yield renamed("gpt_neox.embed_in.weight", "model.embed_tokens.weight")
    yield renamed("embed_out.weight", "lm_head.weight")
    yield from _both("gpt_neox.final_layer_norm", "model.norm")
    for layer in range(config.num_hidden_layers):
        theirs, ours = f"gpt_neox.layers.{layer}", f"model.layers.{layer}"
        for part in ("weight", "bias"):
            names = [f"{ours}.self_attn.{name}.{part}" for name in _QKV]
            yield interleaved(f"{theirs}.attention.query_key_value.{part}", names, config.num_attention_heads)
        for old, new in (
            ("attention.dense", "self_attn.o_proj"),
            ("mlp.dense_h_to_4h", "mlp.up_proj"),
            ("mlp.dense_4h_to_h", "mlp.down_proj"),
            ("input_layernorm", "input_layernorm"),
            ("post_attention_layernorm", "post_attention_layernorm"),
        ):
            yield from _both(f"{theirs}.{old}", f"{ours}.{new}")


def bloom_rules(config: ModelConfig) -> Iterator[Rule]:
    """Queries, keys and values lie head by head in one matrix; the embeddings have a norm."""
    yield renamed("transformer.word_embeddings.weight", "model.embed_tokens.weight")
    yield from _both("transformer.word_embeddings_layernorm", "model.embed_norm")
    yield from _both("transformer.ln_f", "model.norm")
    for layer in range(config.num_hidden_layers):
        theirs, ours = f"transformer.h.{layer}", f"model.layers.{layer}"
        for part in ("weight", "bias"):
            names = [f"{ours}.self_attn.{name}.{part}" for name in _QKV]
            yield interleaved(f"{theirs}.self_attention.query_key_value.{part}", names, config.num_attention_heads)
        for old, new in (
            ("self_attention.dense", "self_attn.o_proj"),
            ("mlp.dense_h_to_4h", "mlp.up_proj"),
            ("mlp.dense_4h_to_h", "mlp.down_proj"),
            ("input_layernorm", "input_layernorm"),
            ("post_attention_layernorm", "post_attention_layernorm"),
        ):
            yield from _both(f"{theirs}.{old}", f"{ours}.{new}")


def phi3_rules(config: ModelConfig) -> Iterator[Rule]:
    """Queries, keys and values in one matrix, gate and up in another."""
    for layer in range(config.num_hidden_layers):
        ours = f"model.layers.{layer}"
        names = [f"{ours}.self_attn.{name}.weight" for name in _QKV]
        yield stacked(f"{ours}.self_attn.qkv_proj.weight", names, _qkv_sizes(config))
        names = [f"{ours}.mlp.{name}.weight" for name in ("gate_proj", "up_proj")]
        yield stacked(f"{ours}.mlp.gate_up_proj.weight", names, (config.intermediate_size,) * 2)


def mixtral_rules(config: ModelConfig) -> Iterator[Rule]:
    """Experts under names of their own: w1 gate, w2 down, w3 up."""
    for layer in range(config.num_hidden_layers):
        theirs, ours = f"model.layers.{layer}.block_sparse_moe", f"model.layers.{layer}.mlp"
        yield renamed(f"{theirs}.gate.weight", f"{ours}.gate.weight")
        for expert in range(config.num_experts):
            for old, new in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
                yield renamed(f"{theirs}.experts.{expert}.{old}.weight", f"{ours}.experts.{expert}.{new}.weight")
