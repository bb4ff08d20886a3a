"""Encoder families: BERT, RoBERTa and ModernBERT as short descriptions, and how their files name the tensors.

Devlin et al., arXiv 1810.04805; Liu et al., arXiv 1907.11692; Warner et al., arXiv 2412.13663. This module does not
know tensors' values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bloomery.models.naming import Rule, renamed, stacked

if TYPE_CHECKING:
    from bloomery.models.encoder_config import EncoderConfig

_QKV = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, kw_only=True)
class EncoderFamily:
    """`prefix` stands before the base model's names; `architecture` is the stem of its classes' names."""

    model_type: str
    architecture: str
    prefix: str
    defaults: Mapping[str, Any]
    rules: Callable[[EncoderConfig], Iterator[Rule]]
    modern: bool = False
    """ModernBERT's parts: norms before, rotary positions, windows, gated feed-forward, a last norm."""
    offset_positions: bool = False
    """Positions begin after the padding id, and padding has none (RoBERTa)."""


def _both(theirs: str, ours: str) -> Iterator[Rule]:
    for part in ("weight", "bias"):
        yield renamed(f"{theirs}.{part}", f"{ours}.{part}")


def _bert_body(config: EncoderConfig, prefix: str) -> Iterator[Rule]:
    for theirs, ours in (("word", "tokens"), ("position", "positions"), ("token_type", "types")):
        yield renamed(f"{prefix}.embeddings.{theirs}_embeddings.weight", f"embed_{ours}.weight")
    yield from _both(f"{prefix}.embeddings.LayerNorm", "embed_norm")
    for layer in range(config.num_hidden_layers):
        theirs, ours = f"{prefix}.encoder.layer.{layer}", f"layers.{layer}"
        for old, new in (
            ("attention.self.query", "self_attn.q_proj"),
            ("attention.self.key", "self_attn.k_proj"),
            ("attention.self.value", "self_attn.v_proj"),
            ("attention.output.dense", "self_attn.o_proj"),
            ("attention.output.LayerNorm", "post_attention_layernorm"),
            ("intermediate.dense", "mlp.up_proj"),
            ("output.dense", "mlp.down_proj"),
            ("output.LayerNorm", "post_feedforward_layernorm"),
        ):
            yield from _both(f"{theirs}.{old}", f"{ours}.{new}")


def _bert_rules(config: EncoderConfig) -> Iterator[Rule]:
    yield from _bert_body(config, "bert")
    if config.head == "masked":
        yield from _both("cls.predictions.transform.dense", "head.dense")
        yield from _both("cls.predictions.transform.LayerNorm", "head.norm")
        yield renamed("cls.predictions.bias", "output_bias")
        yield renamed("cls.predictions.decoder.weight", "output_weight")
    elif config.head == "sequence":
        yield from _both("bert.pooler.dense", "head.dense")


def _roberta_rules(config: EncoderConfig) -> Iterator[Rule]:
    yield from _bert_body(config, "roberta")
    if config.head == "masked":
        yield from _both("lm_head.dense", "head.dense")
        yield from _both("lm_head.layer_norm", "head.norm")
        yield renamed("lm_head.bias", "output_bias")
        yield renamed("lm_head.decoder.weight", "output_weight")
    elif config.head == "sequence":
        yield from _both("classifier.dense", "head.dense")
        yield from _both("classifier.out_proj", "classifier")


def _modernbert_rules(config: EncoderConfig) -> Iterator[Rule]:
    yield renamed("model.embeddings.tok_embeddings.weight", "embed_tokens.weight")
    yield from _both("model.embeddings.norm", "embed_norm")
    yield from _both("model.final_norm", "norm")
    for layer in range(config.num_hidden_layers):
        theirs, ours = f"model.layers.{layer}", f"layers.{layer}"
        for part in ("weight", "bias"):
            names = [f"{ours}.self_attn.{name}.{part}" for name in _QKV]
            yield stacked(f"{theirs}.attn.Wqkv.{part}", names, (config.hidden_size,) * 3)
            names = [f"{ours}.mlp.{name}.{part}" for name in ("gate_proj", "up_proj")]
            yield stacked(f"{theirs}.mlp.Wi.{part}", names, (config.intermediate_size,) * 2)
        for old, new in (
            ("attn.Wo", "self_attn.o_proj"),
            ("mlp.Wo", "mlp.down_proj"),
            ("mlp_norm", "post_attention_layernorm"),
            *((("attn_norm", "input_layernorm"),) if layer else ()),
        ):
            yield from _both(f"{theirs}.{old}", f"{ours}.{new}")
    if config.head == "masked":
        yield renamed("decoder.weight", "output_weight")
        yield renamed("decoder.bias", "output_bias")


_BERT: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "attention_bias": True,
    "mlp_bias": True,
}
ENCODER_FAMILIES: dict[str, EncoderFamily] = {
    family.model_type: family
    for family in (
        EncoderFamily(
            model_type="bert",
            architecture="Bert",
            prefix="bert.",
            rules=_bert_rules,
            defaults={**_BERT, "vocab_size": 30522, "pad_token_id": 0},
        ),
        EncoderFamily(
            model_type="roberta",
            architecture="Roberta",
            prefix="roberta.",
            rules=_roberta_rules,
            offset_positions=True,
            defaults={**_BERT, "vocab_size": 50265, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
        ),
        EncoderFamily(
            model_type="modernbert",
            architecture="ModernBert",
            prefix="model.",
            rules=_modernbert_rules,
            modern=True,
            defaults={
                "vocab_size": 50368,
                "hidden_size": 768,
                "intermediate_size": 1152,
                "num_hidden_layers": 22,
                "num_attention_heads": 12,
                "hidden_act": "gelu",
                "max_position_embeddings": 8192,
                "initializer_range": 0.02,
                "layer_norm_eps": 1e-5,
                "tie_word_embeddings": True,
                "pad_token_id": 50283,
                "eos_token_id": 50282,
                "bos_token_id": 50281,
                "cls_token_id": 50281,
                "sep_token_id": 50282,
                "local_attention": 128,
                "norm_bias": False,
                "rope_theta": 160000.0,
                "rope_local_base_freq": 10000.0,
                "type_vocab_size": 0,
            },
        ),
    )
}
