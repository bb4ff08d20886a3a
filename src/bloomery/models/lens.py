"""The logit lens: what a model would say after each of its layers.

The residual stream after each layer goes through the last norm and the output head, cap included (nostalgebraist 2020;
Belrose et al., arXiv 2303.08112 say where it misleads). Shapes: B batch, T length, E hidden_size, V vocabulary, L
layers. This module does not know tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.models.decoder import Decoder
from bloomery.models.encoder import Encoder
from bloomery.models.seq2seq import Seq2Seq


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """The layers whose last one the output head reads. ConfigError for a model without."""
    if isinstance(model, Decoder):
        return model.model.layers
    if isinstance(model, Seq2Seq):
        return model.decoder.layers
    if isinstance(model, Encoder):
        return model.layers
    raise ConfigError(f"a {type(model).__name__} has no layers that a logit lens could read")


@contextmanager
def residuals(model: nn.Module) -> Iterator[list[Tensor]]:
    """The residual stream of the last forward: L + 1 tensors (B, T, E), the first one before any layer."""
    blocks, found = blocks_of(model), []

    def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[:] = [inputs[0].detach()]

    def go_on(module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
        found.append(out.detach())

    handles = [blocks[0].register_forward_pre_hook(begin)]
    handles += [block.register_forward_hook(go_on) for block in blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def lens(model: nn.Module, residual: Tensor) -> Tensor:
    """What the model would say of a residual stream: (..., E) -> logits (..., V). ConfigError without such a head."""
    if isinstance(model, Decoder):
        return model.logits(model.model.norm(residual))
    if isinstance(model, Seq2Seq):
        return model.logits(model.decoder.norm(residual))
    if isinstance(model, Encoder) and model.config.head == "masked":
        return model.logits(residual if model.norm is None else model.norm(residual))
    raise ConfigError(f"this {type(model).__name__} has no head over a vocabulary", hint="load a language model")
