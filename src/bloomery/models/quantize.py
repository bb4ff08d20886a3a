"""Rounding weights to integers: symmetric, per output channel or per group of inputs, clipped where that errs least.

w is kept as q * s with q a signed integer of `bits` bits and one s per group. A group's largest weight need not fit:
clipping it makes the steps finer for all others, so some shares of it are tried and the one with the least squared
error is taken (as OCTAV does, Sakr et al., arXiv 2206.06501, by search), each input's weighed by its importance where
that is known. Codes are the nearest ones here; `calibrated` makes one's error good by others. Shapes: O outputs, I
inputs, G groups. This module does not know operators or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError

GROUP_SIZES = (32, 64, 128)
"""Inputs that share a scale, where they do not all share one."""
_SHARES = {4: (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6), 8: (1.0, 0.95, 0.9)}
_ELEMENTS_AT_ONCE = 1 << 18  # a part and what is computed of it stay in the processor's cache


@dataclass(frozen=True)
class QuantizedWeight:
    """`codes` int8 (O, I) within `bits` bits, `scale` float32 (O, G), G = 1 for one scale per output channel."""

    codes: Tensor
    scale: Tensor
    bits: int

    @property
    def group_size(self) -> int:
        """Inputs that share a scale."""
        return self.codes.size(1) // self.scale.size(1)

    @property
    def outline(self) -> Tensor:
        """(O, I) float32 of no meaning and no memory: where an operator wants to see a shape."""
        return self.scale.new_zeros(1, dtype=torch.float32).expand(self.codes.shape)

    def dequantized(self) -> Tensor:
        """(O, I) float32: what the codes stand for."""
        return (self.codes.unflatten(1, (self.scale.size(1), -1)).float() * self.scale[..., None]).flatten(1)


def quantize(
    weight: Tensor,
    bits: int,
    group_size: int | None = None,
    *,
    scale_dtype: torch.dtype = torch.bfloat16,
    clips: bool = True,
    importance: Tensor | None = None,
) -> QuantizedWeight:
    """Round (O, I) to `bits` (4 or 8) bits; `group_size` None: one scale per output channel.

    Scales are such that `scale_dtype` holds them exactly, so that a file or an operator of that precision changes
    nothing. Without `clips` the largest weight of each group fits: some times faster. `importance` (I,) weighs the
    squared errors of each input's weights. ConfigError where the groups do not divide I.
    """
    if bits not in _SHARES:
        raise ConfigError(f"weights are rounded to 4 or 8 bits, not {bits}")
    if not divides(weight, group_size):
        raise ConfigError(f"groups of {group_size} do not divide {weight.size(1)} inputs")
    groups = 1 if group_size is None else weight.size(1) // group_size
    shares = _SHARES[bits] if clips else (1.0,)
    rows = max(1, _ELEMENTS_AT_ONCE // weight.size(1))
    weighing = None if importance is None else importance.float().view(groups, -1)
    parts = [
        _rounded(part.detach().float(), bits, groups, scale_dtype, shares, weighing) for part in weight.split(rows)
    ]
    return QuantizedWeight(torch.cat([codes for codes, _ in parts]), torch.cat([scale for _, scale in parts]), bits)


def divides(weight: Tensor, group_size: int | None) -> bool:
    """Whether groups of that many inputs fit a weight (O, I) without a rest."""
    return group_size is None or weight.size(1) % group_size == 0


def _rounded(
    weight: Tensor, bits: int, groups: int, scale_dtype: torch.dtype, shares: Sequence[float], weighing: Tensor | None
) -> tuple[Tensor, Tensor]:
    grouped = weight.unflatten(1, (groups, -1))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    widest = grouped.abs().amax(dim=-1) / high
    best_scale = torch.ones_like(widest)
    least = torch.full_like(widest, torch.inf)
    for share in shares:
        scale = (widest * share).to(scale_dtype).float()
        scale = torch.where(scale > 0, scale, 1.0)[..., None]
        errors = (grouped / scale).round_().clamp_(low, high).mul_(scale).sub_(grouped).square_()
        wrong = (errors if weighing is None else errors.mul_(weighing)).sum(dim=-1)
        better = wrong < least
        least = torch.where(better, wrong, least)
        best_scale = torch.where(better, scale[..., 0], best_scale)
    codes = torch.round(grouped / best_scale[..., None]).clamp_(low, high).to(torch.int8)
    return codes.flatten(1), best_scale
