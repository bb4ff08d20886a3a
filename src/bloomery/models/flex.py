"""Flex attention: PyTorch's second fused kernel, to which masks, biases and caps are small functions.

Dong et al., "FlexAttention" (arXiv 2412.05496). Blocks of queries and keys that a mask hides whole are not computed.
Shapes: B batch, T query length, S key length, H heads, D head_dim. This module does not know layers, nor when it pays
(see `attention`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError, DeviceError


def flex_attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    tensor: Tensor | None,
    causal: bool,
    scale: float,
    softcap: float | None,
    compiled: bool,
    memo: dict[Any, Any],
) -> Tensor:
    """(B, H, T, D), (B, H_kv, S, D) twice -> (B, H, T, D); `tensor`, `causal` and `memo` as in `attention.Mask`.

    Scores are scaled, then capped, then added to. ConfigError for training on a CPU, DeviceError where it cannot
    be compiled.
    """
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if wanted and query.device.type == "cpu":
        raise ConfigError("flex attention has no backward on CPUs", hint="train with sdpa")
    shape = (query.size(2), key.size(2))
    bias = None
    if tensor is not None:
        tensor = tensor[(None,) * (4 - tensor.ndim)]
        bias = tensor.expand(-1, -1, *shape) if tensor.is_floating_point() else None
    blocks = _causal_blocks(*shape, query.device) if causal else None
    if tensor is not None and bias is None:
        blocks = memo.get(shape)
        if blocks is None:
            blocks = memo[shape] = _blocks(tensor, shape)
    with warnings.catch_warnings():
        # What it says of running without a compiler is what "flex_eager" is for.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's compiler uses what PyTorch calls deprecated
        change, grouped = _score_mod(bias, softcap), query.size(1) != key.size(1)
        kernel = _kernel(query.device.type) if compiled else _eager()
        try:
            return kernel(query, key, value, score_mod=change, block_mask=blocks, scale=scale, enable_gqa=grouped)
        except RuntimeError as error:
            if not compiled or not _is_of_compiler(error):
                raise
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise DeviceError(f"flex attention does not compile here: {first:.200}", hint="use sdpa") from error


def _eager() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention


@cache
def _kernel(device_type: str) -> Callable[..., Tensor]:
    # For lengths that are left open PyTorch 2.13 writes C++ that does not compile: on CPUs each has its own kernel.
    return torch.compile(_eager(), dynamic=False if device_type == "cpu" else None)


def _is_of_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def _score_mod(bias: Tensor | None, softcap: float | None) -> Any:
    """What is done to one scaled score; None for nothing. `bias` (1 or B, 1 or H, T, S)."""
    if bias is None and softcap is None:
        return None
    many_rows, many_heads = (False, False) if bias is None else (bias.size(0) > 1, bias.size(1) > 1)

    def change(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if softcap is not None:
            score = torch.tanh(score / softcap) * softcap
        if bias is not None:
            score = score + bias[row if many_rows else 0, head if many_heads else 0, query, key]
        return score

    return change


@lru_cache(maxsize=8)
def _causal_blocks(length: int, total: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query >= key

    return create_block_mask(seen, None, None, length, total, device=device)


def _blocks(tensor: Tensor, shape: tuple[int, int]) -> Any:
    """The blocks of a bool mask, broadcastable to (B, H, T, S), that are not hidden whole."""
    from torch.nn.attention.flex_attention import create_block_mask

    tensor = tensor.expand(-1, -1, *shape)
    rows, heads = (size if size > 1 else None for size in tensor.shape[:2])

    def seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return tensor[0 if rows is None else row, 0 if heads is None else head, query, key]

    return create_block_mask(seen, rows, heads, *shape, device=tensor.device)
