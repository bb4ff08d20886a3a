"""Shapes: the sizes that the planner chooses from, and what each has of parameters and of work.

Work is counted in floating-point operations: 6 for each parameter and token, causal attention, and the orthogonal
updates of Muon, which do not depend on the batch and so weigh most where batches are small. This module does not know
how fast a machine is (`timing`), nor what a shape learns (`law`).
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

from bloomery.models import Decoder, ModelConfig
from bloomery.models.config import every_second_layer
from bloomery.models.outline import shapes_only
from bloomery.training.muon import feed_block
from bloomery.training.optimizers import OptimizerConfig
from bloomery.training.orthogonal import at_a_time, direct_flops, gram_flops

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
_USUAL = OptimizerConfig()
_WHOLE = OptimizerConfig(matrix_by_head=False, matrix_feed_block=0)
# Tao et al. 2024 (arXiv 2407.13623): the best vocabulary's parameters grow more slowly than the others.
_VOCABULARY_PARAMETERS, _REFERENCE, _VOCABULARY_EXPONENT = 3_145_728, 33e6, 0.8354


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
    attention, feed_forward = _matrices(config)
    return sum(rows * columns for rows, columns in (*attention, *feed_forward)) * config.num_hidden_layers


def suggested_vocabulary(config: ModelConfig) -> int:
    """The vocabulary that Tao et al.'s rule gives for a model of this size, to two digits."""
    parameters = _VOCABULARY_PARAMETERS * (matrix_parameters(config) / _REFERENCE) ** _VOCABULARY_EXPONENT
    rows = parameters / config.hidden_size
    return max(256, int(round(rows, 2 - len(str(int(rows))))))


@lru_cache(maxsize=64)
def total_parameters(config: ModelConfig) -> int:
    """All parameters, counted on a decoder without memory."""
    with shapes_only():
        return sum(parameter.numel() for parameter in Decoder(config).parameters())


def step_flops(config: ModelConfig, tokens: int, context_length: int) -> float:
    """Floating-point operations of the forward and backward pass over `tokens`: 6 per parameter and token, and causal
    attention."""
    matrices = matrix_parameters(config) + config.vocab_size * config.hidden_size
    attention = config.num_hidden_layers * config.num_attention_heads * config.head_dim * context_length
    return 6.0 * tokens * (matrices + attention)


def update_flops(config: ModelConfig, optimizer: OptimizerConfig = _USUAL) -> float:
    """Floating-point operations of one update by Muon: its iterations, the cheaper way for each matrix, whole or cut
    into heads and blocks of neurons as `optimizer` has it; the mean over steps where a matrix is whole now and then."""
    every, iterations = optimizer.matrix_whole_every, optimizer.matrix_iterations
    flops = _flops(_cut(config, optimizer), iterations)
    if every:
        flops += (_flops(_cut(config, _WHOLE), iterations) - flops) / every
    return flops * config.num_hidden_layers


def _flops(cut: list[tuple[tuple[int, int], int]], iterations: int) -> float:
    """Of one layer's matrices, cut so."""
    total = 0.0
    for (neurons, stream), parts in cut:
        short, long = sorted((neurons // parts, stream))
        total += parts * float(min(flops(short, long, iterations) for flops in (direct_flops, gram_flops)))
    return total


def update_floats(config: ModelConfig, optimizer: OptimizerConfig = _USUAL, *, device: str = "cpu") -> float:
    """Numbers that an update by Muon works with at its height: of the matrices of one shape there are momentum and
    result; of those that are orthogonalised at a time (all, but on a CPU) a scaled copy and four squares of their
    shorter side."""
    together: dict[tuple[int, int], int] = {}
    for (neurons, stream), parts in _cut(config, optimizer)[:-1]:  # the last feed-forward's lies the other way round
        shape = (neurons // parts, stream)
        together[shape] = together.get(shape, 0) + parts * config.num_hidden_layers
    return max(_height(count, *shape, device) for shape, count in together.items())


def _height(count: int, rows: int, columns: int, device: str) -> float:
    """`update_floats` of so many equal matrices."""
    size, squares = rows * columns, 4.0 * min(rows, columns) ** 2
    return 2.0 * count * size + at_a_time(count, rows, columns, device=device) * (size + squares)


def _cut(config: ModelConfig, optimizer: OptimizerConfig) -> list[tuple[tuple[int, int], int]]:
    """The matrices of one layer, and in how many parts each is orthogonalised."""
    attention, feed_forward = _matrices(config)
    blocks = [config.head_dim if optimizer.matrix_by_head else 0] * len(attention)
    blocks += [feed_block(*shape, optimizer.matrix_feed_block) for shape in feed_forward]
    found = []
    for (neurons, stream), block in zip((*attention, *feed_forward), blocks, strict=True):
        cuts = block and neurons > block and neurons % block == 0
        found.append(((neurons, stream), neurons // block if cuts else 1))
    return found


def _matrices(config: ModelConfig) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(neurons, width of the residual stream) of the matrices of one layer: of its attention, of its feed-forward."""
    hidden, wide = config.hidden_size, config.intermediate_size
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    attention = [(queries, hidden), (keys, hidden), (keys, hidden), (queries, hidden)]
    return attention, [(wide, hidden)] * (3 if config.gated else 2)
