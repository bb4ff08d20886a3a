"""GGUF of T5: an encoder-decoder under llama.cpp's names, which reads a text with one half and writes with the other.

llama.cpp does not scale what goes into a tied head, as T5 does (v1.1 does not): the scale is written into the decoder's
last norm, so that logits are the model's. This module does not know tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.seq2seq import Seq2Seq, Stack
from bloomery.models.seq2seq_config import Seq2SeqConfig

ARCHITECTURE = "t5"
_MAX_DISTANCE = 128  # written into llama.cpp
_CONTEXT = 512  # relative positions have no end; llama.cpp takes the number for the size of its memory
_PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_o",
    "cross_attention_layernorm": "cross_attn_norm",
    "cross_attn.q_proj": "cross_attn_q",
    "cross_attn.k_proj": "cross_attn_k",
    "cross_attn.v_proj": "cross_attn_v",
    "cross_attn.o_proj": "cross_attn_o",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def check_seq2seq(config: Seq2SeqConfig) -> None:
    """ConfigError for what llama.cpp's t5 cannot compute."""
    lacking = None
    if config.hidden_act not in (("gelu_new", "gelu_pytorch_tanh") if config.gated else ("relu",)):
        lacking = f"feed_forward_proj {config.feed_forward_proj}"
    elif config.num_decoder_layers > config.num_layers:
        lacking = f"more layers that write ({config.num_decoder_layers}) than read ({config.num_layers})"
    elif config.relative_attention_max_distance != _MAX_DISTANCE:
        lacking = f"relative_attention_max_distance {config.relative_attention_max_distance} (it takes {_MAX_DISTANCE})"
    if lacking is not None:
        raise ConfigError(f"llama.cpp's {ARCHITECTURE} does not know {lacking}", hint="export a folder instead")


def write_seq2seq(writer: Any, config: Seq2SeqConfig) -> None:
    """The sizes under llama.cpp's keys."""
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_block_count(config.num_layers)
    writer.add_decoder_block_count(config.num_decoder_layers)
    writer.add_head_count(config.num_heads)
    writer.add_key_length(config.d_kv)
    writer.add_value_length(config.d_kv)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_relative_attn_buckets_count(config.relative_attention_num_buckets)
    writer.add_decoder_start_token_id(config.decoder_start_token_id)
    writer.add_vocab_size(config.vocab_size)


def seq2seq_tensors(model: Seq2Seq) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under llama.cpp's name."""
    yield "token_embd.weight", model.embed_tokens.weight.detach()
    if model.lm_head is not None:
        yield "output.weight", model.lm_head.weight.detach()
    scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
    yield from _stack("enc", model.encoder, 1.0)
    yield from _stack("dec", model.decoder, scale)


def _stack(prefix: str, stack: Stack, scale: float) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in stack.named_parameters():
        tensor = parameter.detach()
        path, _, kind = name.rpartition(".")
        if path == "norm":
            yield f"{prefix}.output_norm.{kind}", tensor.float() * scale
        elif path == "bias.embedding":
            yield f"{prefix}.blk.0.attn_rel_b.weight", tensor
        else:
            _, number, part = path.split(".", 2)
            yield f"{prefix}.blk.{number}.{_PARTS[part]}.{kind}", tensor
