"""Tensor parallel: the ranks of a group compute each layer of a decoder together.

Queries, keys, values and the way into the feed-forward are divided by their outputs, so that each rank has some heads;
the ways out by their inputs, and their results are added (Shoeybi et al., Megatron-LM, arXiv 1909.08053), with
torch.distributed.tensor.parallel. Embedding, norms and output head are on every rank. This module does not know
optimisers, nor how a batch is shared.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder
from bloomery.models.attention import Attention
from bloomery.models.feed_forward import FeedForward, GatedFeedForward
from bloomery.training.parallel.parallel_config import check_heads

_IN = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
_OUT = ("self_attn.o_proj", "mlp.down_proj")
_OF_HEADS = ("self_attn.q_norm.", "self_attn.k_norm.")


def split_layers(model: nn.Module, mesh: DeviceMesh) -> set[str]:
    """Divide a decoder's layers among the ranks of a mesh; returns the names of parameters that every rank has whole
    but whose gradients are of its own heads only, and must be added up. ConfigError for a model that cannot be divided.
    """
    size = mesh.size()
    if not isinstance(model, Decoder):
        raise ConfigError(
            "only a decoder's layers can be divided among tensor ranks", hint="--set parallel.tensor_ranks=1"
        )
    _check(model, size)
    partial: set[str] = set()
    for number, layer in enumerate(model.model.layers):
        parts = {name for name, _ in layer.named_modules()}
        plan = {
            **{name: ColwiseParallel() for name in _IN if name in parts},
            **{name: RowwiseParallel() for name in _OUT if name in parts},
        }
        parallelize_module(layer, mesh, plan)
        for module in layer.modules():
            if isinstance(module, Attention):
                module.heads //= size
                module.kv_heads //= size
        partial.update(
            f"model.layers.{number}.{name}" for name, _ in layer.named_parameters() if name.startswith(_OF_HEADS)
        )
    return partial


def _check(model: Decoder, size: int) -> None:
    config, hint = model.config, "--set parallel.tensor_ranks=1"
    check_heads(config.num_attention_heads, config.num_key_value_heads, size)
    if config.intermediate_size % size:
        raise ConfigError(f"a feed-forward of {config.intermediate_size} cannot be divided by {size}", hint=hint)
    for module in model.modules():
        whole = isinstance(module, Attention) and (module.v_gate is not None or module.qk_norm == "projection")
        if whole or (hasattr(module, "experts")) or config.family.positions == "alibi":
            raise ConfigError(
                "value embeddings, experts, ALiBi and norms over all heads cannot be divided among tensor ranks",
                hint=hint,
            )
    assert all(isinstance(layer.mlp, (FeedForward, GatedFeedForward)) for layer in model.model.layers)
