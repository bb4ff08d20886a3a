"""Norms: root-mean-square and layer normalisation, with and without parameters.

Zhang and Sennrich, arXiv 1910.07467; Ba et al., arXiv 1607.06450. This module does not know where a norm stands.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.models import fused

NORMS = ("rms", "rms_from_one", "rms_bare", "layer", "layer_no_bias", "layer_bare")


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, computed in float32 and returned in the dtype of x.

    `from_one` stores the weight less one, and multiplies before it goes back to the dtype of x (Gemma).
    """

    def __init__(self, size: int, eps: float, *, from_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size) if from_one else torch.ones(size))
        self.eps = eps
        self.from_one = from_one

    def forward(self, x: Tensor) -> Tensor:
        if self.from_one:
            return F.rms_norm(x.float(), self.weight.shape, 1.0 + self.weight.float(), self.eps).to(x.dtype)
        if x.dtype == self.weight.dtype == torch.float32:
            if self.training and fused.pays(x):
                return fused.rms_norm(x, self.weight, self.eps)
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return (F.rms_norm(x.float(), self.weight.shape, None, self.eps).to(x.dtype) * self.weight).to(x.dtype)


class BareRMSNorm(nn.Module):
    """x / rms(x) over the last dimension, without a parameter, in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.size, self.eps = size, eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (self.size,), None, self.eps).to(x.dtype)


def make_norm(kind: str, size: int, eps: float) -> nn.Module:
    """A norm over the last `size` numbers. Kinds: "rms", "rms_from_one" (Gemma: the weight is kept less one),
    "rms_bare", "layer", "layer_no_bias", "layer_bare" ("bare": no parameters). ConfigError for another one."""
    match kind:
        case "rms" | "rms_from_one":
            return RMSNorm(size, eps, from_one=kind == "rms_from_one")
        case "rms_bare":
            return BareRMSNorm(size, eps)
        case "layer" | "layer_no_bias" | "layer_bare":
            return nn.LayerNorm(size, eps, elementwise_affine=kind != "layer_bare", bias=kind == "layer")
    raise ConfigError(f"unknown norm {kind!r}", hint="known: " + ", ".join(NORMS))
