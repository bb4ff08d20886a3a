"""Memory of a training step, before it is taken: parameters, gradients, optimiser, activations; and what is there.

Activations are counted as what autograd keeps of each layer of our decoder: a test compares the count with what
PyTorch saves. What this module does not know: fragmentation, the allocator's cache, and what other programs will
take meanwhile; the interval allows for them.
"""

from __future__ import annotations

import psutil
import torch

from bloomery.core.quantity import Quantity
from bloomery.models import ModelConfig
from bloomery.training.optimizers import OptimizerConfig
from bloomery.training.planning.shapes import matrix_parameters, total_parameters, update_floats
from bloomery.training.room import free_memory

_FLOAT = 4
# Python, PyTorch and their libraries, resident before any tensor; a CUDA context is of the same order.
_PROCESS_BYTES = 400e6
_LOGITS_BYTES = {"cpu": 4 * 2 * 1024 * 1024, "cuda": 3 * 256 * 1024 * 1024}
_LOW, _HIGH = 0.8, 1.4
_USABLE = 0.9
"""Of what is free: the rest is for others."""


def activation_floats(config: ModelConfig, *, fused: bool = False) -> int:
    """Numbers that a layer keeps of each token for its backward pass; with `fused` norms and rotations (see
    `models.fused`) none of what they put out."""
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    norms, rotations = (4, 3) if fused else (6, 4)
    wide = 4 if config.gated else 2 if fused else 3
    return norms * config.hidden_size + rotations * (queries + keys) + wide * config.intermediate_size


def saved_bytes(config: ModelConfig, tokens: int, *, fused: bool = False) -> float:
    """What autograd keeps after the forward pass over `tokens`, the fused loss's gradients included, and of family
    bloomery's parts the embedded values and what is smeared."""
    hidden, keys = config.hidden_size, config.num_key_value_heads * config.head_dim
    parts = len(config.value_embedding_layers) * keys + (2 * hidden if config.smear else 0)
    whole = (2 if fused else 3) * hidden + parts
    kept = tokens * (config.num_hidden_layers * activation_floats(config, fused=fused) + whole)
    return _FLOAT * (kept + config.vocab_size * hidden)


def training_memory(
    config: ModelConfig,
    *,
    micro_tokens: int,
    precision: str,
    device: torch.device,
    optimizer: OptimizerConfig | None = None,
) -> Quantity:
    """Bytes at the height of a step: AdamW keeps two numbers for a parameter, Muon one for a matrix."""
    parameters, matrices = total_parameters(config), matrix_parameters(config)
    states = 2 * (parameters - matrices) + matrices
    fused = device.type == "cpu" and precision == "float32"
    activations = saved_bytes(config, micro_tokens, fused=fused) + _FLOAT * micro_tokens * 3 * config.intermediate_size
    if precision == "bfloat16":  # half of the activations, and a copy of the weights
        activations = 0.6 * activations + 2 * matrices
    update = update_floats(config, optimizer or OptimizerConfig(), device=device.type)
    work = max(activations, _FLOAT * update)
    total = _FLOAT * (2 * parameters + states) + work + _LOGITS_BYTES.get(device.type, _LOGITS_BYTES["cuda"])
    total += _PROCESS_BYTES
    return Quantity(low=total * _LOW, central=total, high=total * _HIGH, method="estimated")


def available_memory(device: torch.device) -> float:
    """Bytes that this process may have in all: what is free, and on a machine of its own what it holds already."""
    held = 0 if device.type == "cuda" else psutil.Process().memory_info().rss
    return float(free_memory(device) + held)


def parts_of(rows: int, at_most: int) -> int:
    """The largest part of a batch of `rows` that has no more than `at_most` rows and divides it; all of it for 0."""
    if not 0 < at_most < rows:
        return rows
    return next(part for part in range(at_most, 0, -1) if rows % part == 0)


def fitting_rows(
    config: ModelConfig,
    rows: int,
    *,
    context_length: int,
    precision: str,
    device: torch.device,
    available: float,
    optimizer: OptimizerConfig | None = None,
) -> int:
    """The largest part of a batch of `rows`, halved as often as needed, whose step fits; 0 if not even one row does."""
    part = rows
    while part >= 1:
        needed = training_memory(
            config, micro_tokens=part * context_length, precision=precision, device=device, optimizer=optimizer
        ).high
        if needed is not None and needed <= _USABLE * available:
            return part
        if part == 1:
            return 0
        part = part // 2 if part % 2 == 0 else 1
    return 0
