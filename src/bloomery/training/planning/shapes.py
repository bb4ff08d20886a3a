"""Shapes: the sizes that the planner chooses from, and what each has of parameters and of work.

Work is counted in floating-point operations: 6 for each parameter and token, causal attention, and the orthogonal
updates of Muon, which do not depend on the batch and so weigh most where batches are small. This module does not know
how fast a machine is (`timing`), nor what a shape learns (`law`).
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import torch

from bloomery.models import Decoder, ModelConfig
from bloomery.models.config import every_second_layer
from bloomery.training.orthogonal import direct_flops, gram_flops

HEAD_DIM = 64
# (layers, hidden size): the ratio grows slowly, as in published ladders of small models.
LADDER = (
    (2, 128),
    (2, 192),
    (3, 192),
    (4, 256),
    (5, 320),
    (6, 384),
    (7, 448),
    (8, 512),
    (10, 640),
    (12, 768),
    (16, 1024),
)
_NEWTON_SCHULZ_STEPS = 5


def key_value_heads(heads: int) -> int:
    """Two query heads to a key head from four heads on."""
    return heads // 2 if heads % 2 == 0 and heads >= 4 else heads


def intermediate_size(hidden: int, *, gated: bool = True) -> int:
    """8/3 of the width in steps of 64: a SwiGLU with the parameters of a plain feed-forward four times as wide."""
    return 4 * hidden if not gated else max(64, round(hidden * 8 / 3 / 64) * 64)


def shaped(base: ModelConfig, layers: int, hidden: int) -> ModelConfig:
    """`base` with a rung of the ladder's sizes: head_dim 64."""
    heads = hidden // HEAD_DIM
    return dataclasses.replace(
        base,
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=intermediate_size(hidden, gated=base.gated),
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads(heads),
        head_dim=HEAD_DIM,
        value_embedding_layers=every_second_layer(layers) if base.value_embedding_layers else (),
    )


def matrix_parameters(config: ModelConfig) -> int:
    """Parameters of the attention and feed-forward matrices."""
    return sum(rows * columns for rows, columns in _matrices(config)) * config.num_hidden_layers


@lru_cache(maxsize=64)
def total_parameters(config: ModelConfig) -> int:
    """All parameters, counted on a decoder without memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Decoder(config).parameters())


def step_flops(config: ModelConfig, tokens: int, context_length: int) -> float:
    """Floating-point operations of the forward and backward pass over `tokens`: 6 per parameter and token, and causal
    attention."""
    matrices = matrix_parameters(config) + config.vocab_size * config.hidden_size
    attention = config.num_hidden_layers * config.num_attention_heads * config.head_dim * context_length
    return 6.0 * tokens * (matrices + attention)


def update_flops(config: ModelConfig) -> float:
    """Floating-point operations of one update by Muon: five Newton-Schulz steps, the cheaper way for each matrix."""
    total = 0.0
    for matrix in _matrices(config):
        short, long = sorted(matrix)
        total += min(flops(short, long, _NEWTON_SCHULZ_STEPS) for flops in (direct_flops, gram_flops))
    return total * config.num_hidden_layers


def _matrices(config: ModelConfig) -> list[tuple[int, int]]:
    """(rows, columns) of the matrices of one layer."""
    hidden, wide = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    feed_forward = [(wide, hidden)] * (3 if config.gated else 2)
    return [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries), *feed_forward]
