"""Fused: parts of a training step whose backward is written by hand, in fewer passes over memory.

PyTorch computes root-mean-square norms, rotations and squared ReLUs on a CPU as chains of operators, each of which
reads and writes all of its input, and the backward of each again. Here are the same formulas with the passes that they
need, and several matrices of one input as one product. Modules in training use them where a gradient is wanted on a CPU
in float32; elsewhere the plain operators are, to whose last bit published families are compared. This module does not
know modules.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def pays(x: Tensor) -> bool:
    """Whether the fused functions are to be used for x. A compiler fuses by itself."""
    return trains_here(x) and not torch.compiler.is_compiling()


def trains_here(x: Tensor) -> bool:
    """Whether x is on its way to a gradient on a CPU in float32."""
    return (
        x.requires_grad
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.size(-1)).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        x, weight, scale = ctx.saved_tensors
        size = x.size(-1)
        product = (grad * x).reshape(-1, size)
        of_weight = (product.T @ scale.reshape(-1)) if ctx.needs_input_grad[1] else None
        along = (product @ weight).view_as(scale).mul_(scale.pow(3).div_(size))
        return (grad * weight).mul_(scale).addcmul_(x, along, value=-1), of_weight, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension: (..., E), (E,) -> (..., E)."""
    found = _RMSNorm.apply(x, weight, eps)
    assert isinstance(found, Tensor)
    return found


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half = cos.size(-1) // 2
        out = x * cos
        out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        out[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        cos, sin = ctx.saved_tensors
        half = cos.size(-1) // 2
        out = grad * cos
        out[..., :half].addcmul_(grad[..., half:], sin[..., half:])
        out[..., half:].addcmul_(grad[..., :half], sin[..., :half], value=-1)
        return out, None, None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, H, T, D) turned by tables (T, D): the halves of a head against each other. See `rope.rotate`."""
    found = _Rotate.apply(x, cos, sin)
    assert isinstance(found, Tensor)
    return found


class _SquaredReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (positive,) = ctx.saved_tensors
        return ((grad_outputs[0] * positive).mul_(2),)


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2."""
    found = _SquaredReLU.apply(x)
    assert isinstance(found, Tensor)
    return found


def _split_product(x: Tensor, weights: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return F.linear(x, torch.cat(weights)).split([weight.size(0) for weight in weights], -1)


class _Projections(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *weights)
        return _split_product(x, weights)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        grad = torch.cat(grad_outputs, -1).flatten(0, -2)
        of_x = (grad @ torch.cat(weights)).view_as(x) if ctx.needs_input_grad[0] else None
        if not any(ctx.needs_input_grad[1:]):
            return of_x, *[None] * len(weights)
        of_weights = (grad.T @ x.flatten(0, -2)).split([weight.size(0) for weight in weights])
        return of_x, *of_weights


def projections(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    """x (..., E) by several matrices (O, E) at once: one larger product, and no sums of gradients; (..., O) each."""
    if torch.compiler.is_compiling():
        return _split_product(x, weights)
    return _Projections.apply(x, *weights)
