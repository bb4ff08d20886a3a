"""ALiBi: a score falls with the distance between query and key, at a slope of its head's own.

Press et al., "Train Short, Test Long" (arXiv 2108.12409). Shapes: H heads, T query length, S key length. This module
does not know attention beyond its mask.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bloomery.models.attention import Mask


def slopes(num_heads: int) -> list[float]:
    """The heads' slopes: 2^(-8 n / H), n from 1 to H, where H is a power of two.

    For other H the slopes of the next smaller power, then every second one of the next larger, as the authors' code
    and BLOOM have it.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    between = [2.0 ** (-4 * n / power) for n in range(1, 2 * (num_heads - power), 2)]
    return [2.0 ** (-8 * n / power) for n in range(1, power + 1)] + between


def with_alibi(mask: Mask, slope: Tensor, start: int, length: int) -> Mask:
    """`mask` of queries at start .. start + length - 1 over all keys so far, with slope (H) times (key - query)
    added: float32 (1, H, T, S)."""
    total = start + length
    keys = torch.arange(total, device=slope.device)
    distance = keys[None, :] - keys[start:, None]
    bias = slope[:, None, None] * distance
    if mask.causal:
        bias = bias.masked_fill(distance > 0, -torch.inf)
    elif mask.tensor is not None:
        bias = bias.masked_fill(~mask.tensor, -torch.inf)
    return Mask(bias[None])
