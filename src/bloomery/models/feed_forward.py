"""Feed-forward parts: plain, gated, and a mixture of experts.

Plain with GELU or squared ReLU; gated as SwiGLU and GeGLU (Shazeer, arXiv 2002.05202); sparse mixture of experts
(Shazeer et al., arXiv 1701.06538, routed as Mixtral and Qwen3-MoE do). Parameter names are Llama's. Shapes: B batch,
T length, E hidden_size. This module does not know blocks, nor how experts are spread over devices.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models import fused


def quick_gelu(x: Tensor) -> Tensor:
    """x sigmoid(1.702 x): the GELU of the first CLIP models."""
    return x * torch.sigmoid(1.702 * x)


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2. So et al., arXiv 2109.08668."""
    return F.relu(x).square()


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": squared_relu,
    "tanh": torch.tanh,
}
"""Activations under Hugging Face's names."""


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation of a `hidden_act`; ConfigError with the nearest known one."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"unknown activation {name!r:.60}", hint=nearest(name, ACTIVATIONS))
    return ACTIVATIONS[name]


class FeedForward(nn.Module):
    """down(act(up(x))), (B, T, E) -> (B, T, E)."""

    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str, *, bias: bool) -> None:
        super().__init__()
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=bias)
        self.act = activation(hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up_proj(x)
        if self.act is squared_relu and self.training and fused.pays(x):
            return self.down_proj(fused.squared_relu(x))
        return self.down_proj(self.act(x))


class GatedFeedForward(nn.Module):
    """down(act(gate(x)) * up(x)): SwiGLU with silu, GeGLU with a GELU."""

    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str, *, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=bias)
        self.act = activation(hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class MixtureOfExperts(nn.Module):
    """Each token goes through its `num_experts_per_tok` most probable gated experts, weighted by their probability.

    `norm_topk_prob` makes the chosen weights sum to one.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        hidden_act: str,
        *,
        num_experts: int,
        num_experts_per_tok: int,
        norm_topk_prob: bool,
    ) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden_size, num_experts, bias=False)
        self.experts = nn.ModuleList(
            GatedFeedForward(hidden_size, intermediate_size, hidden_act, bias=False) for _ in range(num_experts)
        )
        self.num_experts_per_tok, self.norm_topk_prob = num_experts_per_tok, norm_topk_prob
        self.choosing: Callable[[Tensor], AbstractContextManager[None]] | None = None
        """Entered with the numbers of the rows that an expert is about to be given, for what is kept row by row."""

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (N, E) -> weights and expert numbers, both (N, num_experts_per_tok); weights are float32."""
        probabilities = self.gate(x).float().softmax(dim=-1)
        weights, chosen = probabilities.topk(self.num_experts_per_tok, dim=-1)
        if self.norm_topk_prob:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights, chosen

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.size(-1))
        weights, chosen = self.route(flat)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            rows, places = (chosen == number).nonzero(as_tuple=True)
            if rows.numel():
                share = weights[rows, places, None].to(flat.dtype)
                with nullcontext() if self.choosing is None else self.choosing(rows):
                    made = expert(flat[rows])
                out.index_add_(0, rows, (made * share).to(out.dtype))
        return out.view_as(x)
