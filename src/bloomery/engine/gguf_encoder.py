"""GGUF of encoders: BERT's body under llama.cpp's names, for texts to be embedded there.

llama.cpp adds the first token type's vector to every token and computes GELU by its tanh form, so vectors agree to
about three digits. RoBERTa's tokenizer and ModernBERT's parts are not written. This module does not know tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.models.pooling import Pooling

_WHOLE = {
    "embed_tokens": "token_embd",
    "embed_positions": "position_embd",
    "embed_types": "token_types",
    "embed_norm": "token_embd_norm",
}
_PARTS = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "post_attention_layernorm": "attn_output_norm",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "post_feedforward_layernorm": "layer_output_norm",
}


def write_encoder(gguf: Any, writer: Any, config: EncoderConfig, pooling: Pooling | None) -> None:
    """An encoder's sizes, and how a text's vector is made. ConfigError for what llama.cpp does not compute."""
    if config.model_type != "bert":
        raise ConfigError(f"GGUF is not written for {config.model_type} encoders", hint="export a folder instead")
    if config.hidden_act not in ("gelu", "gelu_new", "gelu_pytorch_tanh"):
        raise ConfigError(f"llama.cpp's bert does not know hidden_act {config.hidden_act}", hint="export a folder")
    kinds = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS}
    mode = pooling.mode if pooling is not None else "mean"
    if mode not in kinds:
        raise ConfigError(f"llama.cpp has no {mode} pooling", hint="export a folder instead")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_pooling_type(kinds[mode])
    writer.add_token_type_count(config.type_vocab_size)


def encoder_tensors(encoder: Encoder) -> Iterator[tuple[str, Tensor]]:
    """The body's tensors under llama.cpp's names; heads and poolers are left out."""
    for name, parameter in encoder.named_parameters():
        path, _, kind = name.rpartition(".")
        if path in _WHOLE:
            yield f"{_WHOLE[path]}.{kind}", parameter.detach()
        elif path.startswith("layers."):
            number, module = path.split(".")[1], path.rpartition(".")[2]
            yield f"blk.{number}.{_PARTS[module]}.{kind}", parameter.detach()
