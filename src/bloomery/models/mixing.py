"""Mixing: what is added to or scales the residual stream beside the layers: the token before, and the input again.

Smear and the lambdas are as in modded-nanogpt (github.com/KellerJordan/modded-nanogpt, 2026) and nanochat
(github.com/karpathy/nanochat, 2026). Shapes: B batch, T length, E hidden_size, L layers. This module does not know
where tokens before come from.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.models import fused

_SMEAR_INPUTS = 24
"""How many numbers of an embedded token decide how much of the one before it takes: nanochat's choice."""


class Smear(nn.Module):
    """x_t + lambda sigmoid(w x_t[:24]) x_(t - 1), over embedded tokens. A fresh one adds nothing: lambda is 0."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(1, min(_SMEAR_INPUTS, hidden_size)))
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Embedded tokens and those before each (zeros where a text begins), both (B, T, E) -> (B, T, E)."""
        gate = self.scale * torch.sigmoid(F.linear(x[..., : self.gate.size(1)], self.gate))
        return x + gate.to(x.dtype) * before


def shifted(x: Tensor) -> Tensor:
    """(B, T, E): each row's vectors one place later, zeros first."""
    return F.pad(x[:, :-1], (0, 0, 1, 0))


class _Mixed(torch.autograd.Function):
    """a x + b y with numbers a and b that are learnt, in few passes; for training on a CPU, as `fused`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, a, b)
        return (x * float(a)).add_(y, alpha=float(b))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        x, y, a, b = ctx.saved_tensors
        flat = grad.reshape(-1)
        of_a = torch.dot(flat, x.reshape(-1)).to(a.dtype) if ctx.needs_input_grad[2] else None
        of_b = torch.dot(flat, y.reshape(-1)).to(b.dtype) if ctx.needs_input_grad[3] else None
        return grad * a, grad * b, of_a, of_b


class ResidualMix(nn.Module):
    """Before layer n the stream x becomes resid[n] x + x0[n] x0, x0 being the stream before the first layer.

    Either may be left out. A fresh one has nanochat's numbers: from 1.15 down to 1.05, and from .2 down to .05.
    """

    def __init__(self, num_layers: int, *, resid: bool, x0: bool) -> None:
        super().__init__()
        self.resid = nn.Parameter(torch.ones(num_layers)) if resid else None
        self.x0 = nn.Parameter(torch.zeros(num_layers)) if x0 else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The numbers of a fresh one."""
        for values, first, last in ((self.resid, 1.15, 1.05), (self.x0, 0.2, 0.05)):
            if values is not None:
                values.copy_(torch.linspace(first, last, values.numel()))

    def forward(self, x: Tensor, x0: Tensor, layer: int) -> Tensor:
        """(B, T, E) twice -> (B, T, E), as the layer of that number is to read it."""
        if self.training and self.resid is not None and self.x0 is not None and fused.pays(x):
            mixed = _Mixed.apply(x, x0, self.resid[layer], self.x0[layer])
            assert isinstance(mixed, Tensor)
            return mixed
        if self.resid is not None:
            x = x * self.resid[layer].to(x.dtype)
        return x if self.x0 is None else x + x0 * self.x0[layer].to(x.dtype)
