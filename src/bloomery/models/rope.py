"""Rotary position embeddings: frequencies with the published scalings, tables, and the rotation.

Su et al., "RoFormer" (arXiv 2104.09864), in the layout of Hugging Face: the halves of a head are rotated against
each other, not neighbouring pairs. Scalings: linear (kaiokendev 2023), llama3 (Llama 3.1's config), yarn (Peng et
al., arXiv 2309.00071). This module does not know attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How positions beyond the original context are squeezed; names are Hugging Face's."""

    rope_type: str
    factor: float
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None

    def __post_init__(self) -> None:
        if self.rope_type not in ("linear", "llama3", "yarn"):
            raise ConfigError(f"unsupported rope_type {self.rope_type!r}", hint="linear, llama3 or yarn")
        if not (math.isfinite(self.factor) and self.factor >= 1):
            raise ConfigError(f"rope scaling: factor should be at least 1, not {self.factor!r}")
        if self.rope_type == "llama3":
            low, high = self.low_freq_factor, self.high_freq_factor
            if low is None or high is None or not 0 < low < high:
                raise ConfigError("rope scaling llama3 needs low_freq_factor below high_freq_factor")


def inverse_frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None, max_position_embeddings: int
) -> tuple[Tensor, float]:
    """Inverse frequencies float32 (D / 2,), and the factor on cos and sin (1 but for yarn)."""
    frequencies = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim))
    if scaling is None:
        return frequencies, 1.0
    original = scaling.original_max_position_embeddings or max_position_embeddings
    if scaling.rope_type == "linear":
        return frequencies / scaling.factor, 1.0
    if scaling.rope_type == "llama3":
        return _llama3(frequencies, scaling, original), 1.0
    return _yarn(frequencies, scaling, original, head_dim, theta), _yarn_attention_factor(scaling)


def _llama3(frequencies: Tensor, scaling: RopeScaling, original: int) -> Tensor:
    """Long waves are divided by the factor, short ones kept, those between blended."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    assert low is not None and high is not None
    wavelength = 2 * math.pi / frequencies
    scaled = frequencies / scaling.factor
    smooth = (original / wavelength - low) / (high - low)
    blended = (1 - smooth) * scaled + smooth * frequencies
    result = torch.where(wavelength > original / low, scaled, frequencies)
    between = (wavelength >= original / high) & (wavelength <= original / low)
    return torch.where(between, blended, result)


def _yarn(frequencies: Tensor, scaling: RopeScaling, original: int, head_dim: int, theta: float) -> Tensor:
    """Each frequency between interpolated (few rotations in the original context) and kept (many)."""

    def dimension(rotations: float) -> float:
        return head_dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast or 32.0), dimension(scaling.beta_slow or 1.0)
    if scaling.truncate is not False:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return frequencies / scaling.factor * ramp + frequencies * (1 - ramp)


def _yarn_attention_factor(scaling: RopeScaling) -> float:
    def magnitude(mscale: float) -> float:
        return 1.0 if scaling.factor <= 1 else 0.1 * mscale * math.log(scaling.factor) + 1.0

    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return magnitude(scaling.mscale) / magnitude(scaling.mscale_all_dim)
    return magnitude(1.0)


def rope_tables(frequencies: Tensor, factor: float, length: int) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 (length, D): the D/2 angles of each position, twice."""
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos() * factor, angles.sin() * factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x (B, H, T, D) by tables (T, D); returns the dtype of x."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * cos + turned * sin
