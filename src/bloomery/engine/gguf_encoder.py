"""GGUF of encoders: BERT, RoBERTa and ModernBERT under llama.cpp's names, for texts to be embedded there.

llama.cpp adds the first token type's vector to every token and computes GELU by its tanh form, so vectors agree to
about three digits. Heads stay behind. This module does not know tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import SLIDING, EncoderConfig
from bloomery.models.pooling import Pooling

_GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh")
_WHOLE = {
    "embed_tokens": "token_embd",
    "embed_positions": "position_embd",
    "embed_types": "token_types",
    "embed_norm": "token_embd_norm",
    "norm": "output_norm",
}
_BERT_PARTS = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "post_attention_layernorm": "attn_output_norm",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "post_feedforward_layernorm": "layer_output_norm",
}
_MODERN_PARTS = {
    "input_layernorm": "attn_norm",
    "q_proj": "attn_qkv",
    "k_proj": "attn_qkv",
    "v_proj": "attn_qkv",
    "o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "gate_proj": "ffn_up",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


@dataclass(frozen=True, kw_only=True)
class GgufEncoder:
    """What llama.cpp does with one of our families. `parts` of one name lie one after the other, in this order."""

    architecture: str
    parts: dict[str, str]
    biases: bool = True


GGUF_ENCODERS = {
    "bert": GgufEncoder(architecture="bert", parts=_BERT_PARTS),
    "roberta": GgufEncoder(architecture="bert", parts=_BERT_PARTS),
    "modernbert": GgufEncoder(architecture="modern-bert", parts=_MODERN_PARTS, biases=False),
}
"""By our model_type."""


def gguf_encoder(config: EncoderConfig) -> GgufEncoder:
    """What llama.cpp does with a config's family; ConfigError for what it cannot compute."""
    family = GGUF_ENCODERS[config.model_type]
    lacking = None if config.hidden_act in _GELU else f"hidden_act {config.hidden_act}"
    if not family.biases and (config.attention_bias or config.mlp_bias or config.norm_bias):
        lacking = "biases"
    if lacking is not None:
        raise ConfigError(f"llama.cpp's {family.architecture} does not know {lacking}", hint="export a folder instead")
    return family


def write_encoder(gguf: Any, writer: Any, config: EncoderConfig, pooling: Pooling | None) -> None:
    """An encoder's sizes, and how a text's vector is made. ConfigError for a pooling that llama.cpp does not have."""
    kinds = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS, "lasttoken": gguf.PoolingType.LAST}
    mode = pooling.mode if pooling is not None else "mean"
    if mode not in kinds:
        raise ConfigError(f"llama.cpp has no {mode} pooling", hint="export a folder instead")
    if pooling is not None and (pooling.dense or pooling.lower_case):
        lacks = "a dense layer after pooling" if pooling.dense else "texts that are read in small letters"
        raise ConfigError(f"llama.cpp has no {lacks}", hint="export a folder instead")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_pooling_type(kinds[mode])
    if not config.family.modern:
        writer.add_token_type_count(config.type_vocab_size)
        return
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_freq_base(config.rope_theta)
    if SLIDING in config.layer_types:
        writer.add_sliding_window(config.local_attention)
        writer.add_sliding_window_pattern([kind == SLIDING for kind in config.layer_types])
        writer.add_rope_freq_base_swa(config.rope_local_base_freq)


def encoder_tensors(encoder: Encoder, family: GgufEncoder) -> Iterator[tuple[str, Tensor]]:
    """The body's tensors under llama.cpp's names and in its layout; heads and poolers are left out."""
    joined: dict[str, list[Tensor]] = {}
    shared = [name for name in family.parts.values() if list(family.parts.values()).count(name) > 1]
    for name, parameter in encoder.named_parameters():
        path, _, kind = name.rpartition(".")
        tensor = parameter.detach()
        if path in _WHOLE:
            if path == "embed_positions" and encoder.config.family.offset_positions:
                tensor = tensor[(encoder.config.pad_token_id or 0) + 1 :]  # llama.cpp counts from nought
            yield f"{_WHOLE[path]}.{kind}", tensor
        elif path.startswith("layers."):
            part = family.parts[path.rpartition(".")[2]]
            theirs = f"blk.{path.split('.')[1]}.{part}.{kind}"
            if part not in shared:
                yield theirs, tensor
            else:
                joined.setdefault(theirs, []).append(tensor)
    for name, tensors in joined.items():
        yield name, torch.cat(tensors)
