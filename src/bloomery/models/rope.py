"""Rotary position embeddings: frequencies with the published scalings, tables, and the rotation.

Su et al., "RoFormer" (arXiv 2104.09864), in the layout of Hugging Face: the halves of a head are rotated against
each other, not neighbouring pairs. Scalings: linear (kaiokendev 2023), dynamic (emozilla 2023), llama3 (Llama 3.1's
config), yarn (Peng et al., arXiv 2309.00071), longrope (Ding et al., arXiv 2402.13753). This module does not know
attention.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models import fused

# What each kind of scaling reads, beside rope_type and factor.
_KEYS = {
    "linear": frozenset(),
    "dynamic": frozenset(),
    "llama3": frozenset({"original_max_position_embeddings", "low_freq_factor", "high_freq_factor"}),
    "yarn": frozenset(
        {
            *("original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow"),
            *("mscale", "mscale_all_dim", "truncate"),
        }
    ),
    "longrope": frozenset({"original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"}),
}
_BETA_FAST, _BETA_SLOW = 32.0, 1.0


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How positions beyond the original context are squeezed; names are Hugging Face's.

    Raises ConfigError for an unknown kind, a key that its kind has no use for, and numbers that make no frequencies.
    """

    rope_type: str
    factor: float | None = None
    """How many times the original context; longrope may leave it out."""
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None
    short_factor: tuple[float, ...] | None = None
    """Of longrope: by what each wave is lengthened in texts of the original context, (D / 2,)."""
    long_factor: tuple[float, ...] | None = None
    """The same, in longer texts."""

    def __post_init__(self) -> None:
        if self.rope_type not in _KEYS:
            raise ConfigError(f"unsupported rope_type {self.rope_type!r:.60}", hint=", ".join(_KEYS))
        given = {f.name for f in dataclasses.fields(self) if getattr(self, f.name) is not None}
        odd = given - _KEYS[self.rope_type] - {"rope_type", "factor"}
        if odd:
            raise ConfigError(f"rope scaling {self.rope_type} has no use for {', '.join(sorted(odd))}")
        if self.factor is None and self.rope_type != "longrope":
            raise ConfigError(f"rope scaling {self.rope_type} needs a factor")
        if self.factor is not None and not (math.isfinite(self.factor) and self.factor >= 1):
            raise ConfigError(f"rope scaling: factor should be at least 1, not {self.factor!r}")
        if self.rope_type == "llama3":
            low, high = self.low_freq_factor, self.high_freq_factor
            if low is None or high is None or not 0 < low < high:
                raise ConfigError("rope scaling llama3 needs low_freq_factor below high_freq_factor")
        for name in ("original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"rope scaling: {name} should be above 0, not {value!r}")
        for name in ("mscale", "mscale_all_dim"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"rope scaling: {name} should be at least 0, not {value!r}")
        if (self.beta_fast or _BETA_FAST) < (self.beta_slow or _BETA_SLOW):
            raise ConfigError("rope scaling yarn needs beta_fast at least as large as beta_slow")
        if self.rope_type == "longrope":
            for name in ("short_factor", "long_factor"):
                numbers = getattr(self, name)
                if not numbers or not all(math.isfinite(number) and number > 0 for number in numbers):
                    raise ConfigError(f"rope scaling longrope needs {name}: a list of numbers above 0")

    def reach(self, length: int, max_position_embeddings: int) -> int:
        """What a text's length changes: texts with the same number have the same frequencies. 0: it changes nothing."""
        if self.rope_type == "dynamic":
            return length if length > max_position_embeddings else 0
        if self.rope_type == "longrope":
            return int(length > (self.original_max_position_embeddings or max_position_embeddings))
        return 0


def inverse_frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None, max_position_embeddings: int, reach: int = 0
) -> tuple[Tensor, float]:
    """Inverse frequencies float32 (D / 2,), and the factor on cos and sin (1 but for yarn and longrope).

    `reach` is `RopeScaling.reach` of the text's length. Operations are in the order of transformers, so that the
    numbers are equal to the last bit.
    """
    wavelengths = theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim)
    frequencies = 1.0 / wavelengths
    if scaling is None:
        return frequencies, 1.0
    original = scaling.original_max_position_embeddings or max_position_embeddings
    if scaling.rope_type == "dynamic":
        return _dynamic(head_dim, theta, scaling, original, reach) if reach else frequencies, 1.0
    if scaling.rope_type == "longrope":
        lengthened = torch.tensor(scaling.long_factor if reach else scaling.short_factor, dtype=torch.float32)
        return 1.0 / (lengthened * wavelengths), _longrope_attention_factor(scaling, original, max_position_embeddings)
    if scaling.rope_type == "linear":
        return frequencies / _factor(scaling), 1.0
    if scaling.rope_type == "llama3":
        return _llama3(frequencies, scaling, original), 1.0
    return _yarn(wavelengths, scaling, original, head_dim, theta), _yarn_attention_factor(scaling)


def _factor(scaling: RopeScaling) -> float:
    assert scaling.factor is not None
    return scaling.factor


def _dynamic(head_dim: int, theta: float, scaling: RopeScaling, original: int, length: int) -> Tensor:
    """A base that grows with the text, such that its longest wave is stretched as the text is ("NTK-aware")."""
    factor = _factor(scaling)
    # As a tensor, for transformers computes the base in float32.
    stretched = (factor * torch.tensor(length) / original) - (factor - 1)
    base = theta * stretched ** (head_dim / (head_dim - 2))
    return 1.0 / (base ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim))


def _longrope_attention_factor(scaling: RopeScaling, original: int, max_position_embeddings: int) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    factor = scaling.factor or max_position_embeddings / original
    return 1.0 if factor <= 1 or original <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))


def _llama3(frequencies: Tensor, scaling: RopeScaling, original: int) -> Tensor:
    """Long waves are divided by the factor, short ones kept, those between blended."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    assert low is not None and high is not None
    factor = _factor(scaling)
    wavelength = 2 * math.pi / frequencies
    smooth = (original / wavelength - low) / (high - low)
    blended = (1 - smooth) * frequencies / factor + smooth * frequencies
    result = torch.where(wavelength > original / low, frequencies / factor, frequencies)
    between = (wavelength >= original / high) & (wavelength <= original / low)
    return torch.where(between, blended, result)


def _yarn(wavelengths: Tensor, scaling: RopeScaling, original: int, head_dim: int, theta: float) -> Tensor:
    """Each frequency between interpolated (few rotations in the original context) and kept (many).

    `wavelengths` are the reciprocals of the frequencies (D / 2,).
    """

    def dimension(rotations: float) -> float:
        return head_dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast or _BETA_FAST), dimension(scaling.beta_slow or _BETA_SLOW)
    if scaling.truncate is not False:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    kept = 1 - ramp
    return 1.0 / (_factor(scaling) * wavelengths) * (1 - kept) + 1.0 / wavelengths * kept


def _yarn_attention_factor(scaling: RopeScaling) -> float:
    factor = _factor(scaling)

    def magnitude(mscale: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0

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


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, training: bool = False) -> Tensor:
    """Rotate the first dimensions of x (B, H, T, D) by tables (T, D_rotary); D_rotary is D or less."""
    turning = cos.size(-1)
    if turning < x.size(-1):
        return torch.cat(
            (rotate(x[..., :turning], cos, sin, training=training), x[..., turning:].to(cos.dtype)), dim=-1
        )
    if training and fused.pays(x):
        return fused.rotate(x, cos, sin)
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return x * cos + turned * sin
