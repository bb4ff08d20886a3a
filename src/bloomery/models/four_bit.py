"""Linear layers whose frozen weights lie in four bits, for training what is added to them (QLoRA).

"nf4" is NormalFloat of Dettmers et al. (arXiv 2305.14314): a table of 16 numbers, each as likely as the others under a
normal distribution, times the largest magnitude of a block of 64; with `double`, those magnitudes lie in eight bits
too, less their mean, in blocks of 256 under the dynamic table of Dettmers et al. (arXiv 2110.02861). Tables, blocks and
the order of nibbles are bitsandbytes', whose codes are the same. "int4" is `quantize`'s, a scale for 32, 64 or 128
inputs. Weights are made anew whenever they are needed, in backward too: only the codes stay. Plain PyTorch, the same on
every device. Shapes: O outputs, I inputs. This module does not know adapters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models.quantize import GROUP_SIZES, divides, quantize

FORMATS = ("nf4", "int4")
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The paper's appendix E."""
BLOCK = 64
SCALE_BLOCK = 256
_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class FourBitWeight:
    """`codes` uint8 (O I / 2), two to a byte, the first in the upper half; `scale` one number a block: float32 (int4:
    bfloat16), or with `double` uint8 places in the dynamic table, whose blocks have `scale_of_scales`, and what was
    taken off, `mean`."""

    codes: Tensor
    scale: Tensor
    shape: tuple[int, int]
    form: str
    block: int
    scale_of_scales: Tensor | None = None
    mean: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all of it."""
        tensors = (self.codes, self.scale, self.scale_of_scales, self.mean)
        return sum(t.nbytes for t in tensors if t is not None)

    def scales(self) -> Tensor:
        """One float32 a block."""
        if self.scale_of_scales is None or self.mean is None:
            return self.scale.float()
        levels = dynamic_table(self.scale.device)[self.scale.long()]
        factors = self.scale_of_scales.repeat_interleave(SCALE_BLOCK)[: len(levels)]
        return levels * factors + self.mean

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(O, I): what the codes stand for."""
        table = _table(self.form, self.codes.device)
        numbers = torch.stack((table[(self.codes >> 4).long()], table[(self.codes & 15).long()]), dim=1).flatten()
        size = self.shape[0] * self.shape[1]
        blocks = len(self.scale)
        if len(numbers) < blocks * self.block:
            numbers = F.pad(numbers, (0, blocks * self.block - len(numbers)))
        made = numbers[: blocks * self.block].view(blocks, self.block) * self.scales()[:, None]
        return made.flatten()[:size].view(self.shape).to(dtype)


def quantize_nf4(weight: Tensor, *, double: bool = False, block: int = BLOCK) -> FourBitWeight:
    """(O, I) in NormalFloat, block by block along the rows, one after the other."""
    flat = weight.detach().float().flatten()
    size = len(flat)
    blocks = -(-size // block)
    padded = F.pad(flat, (0, blocks * block - size)).view(blocks, block)
    scale = padded.abs().amax(dim=1)
    # Nearest of a sorted table: how many of the middles between its neighbours lie below.
    table = _table("nf4", flat.device)
    middles = (table[1:] + table[:-1]) / 2
    codes = torch.empty(blocks * block, dtype=torch.uint8, device=flat.device)
    rows = max(1, _AT_ONCE // block)
    for start in range(0, blocks, rows):
        part = padded[start : start + rows]
        divided = part / torch.where(scale[start : start + rows] > 0, scale[start : start + rows], 1.0)[:, None]
        codes[start * block : start * block + part.numel()] = torch.bucketize(divided.flatten(), middles).to(
            torch.uint8
        )
    codes = codes[: size + size % 2]
    packed = (codes[0::2] << 4) | codes[1::2]
    shape = (weight.size(0), weight.size(1))
    if not double:
        return FourBitWeight(packed, scale, shape, "nf4", block)
    mean = scale.mean()
    coded, factors = _dynamic(scale - mean)
    return FourBitWeight(packed, coded, shape, "nf4", block, factors, mean)


def quantize_int4(weight: Tensor, group_size: int = BLOCK) -> FourBitWeight:
    """(O, I) rounded to -8 .. 7, `group_size` inputs to a scale; the largest group that divides I if that does not."""
    fitting = [size for size in (group_size, *reversed(GROUP_SIZES)) if divides(weight, size)]
    if not fitting:
        raise ConfigError(f"groups of {GROUP_SIZES} do not divide {weight.size(1)} inputs", hint='base="nf4"')
    made = quantize(weight, 4, fitting[0])
    codes = (made.codes + 8).to(torch.uint8).flatten()
    packed = (codes[0::2] << 4) | codes[1::2]
    scale = made.scale.flatten().bfloat16()  # which holds them exactly
    return FourBitWeight(packed, scale, (weight.size(0), weight.size(1)), "int4", fitting[0])


@cache
def _table(form: str, device: torch.device) -> Tensor:
    numbers = NF4 if form == "nf4" else tuple(float(n) for n in range(-8, 8))
    return torch.tensor(numbers, device=device)


@cache
def dynamic_table(device: torch.device) -> Tensor:
    """The 256 numbers of the dynamic tree in eight bits, sorted: a sign, zeros that count the decimal exponent, a one,
    and a linear fraction in the bits that are left: middles of equal steps from .1 to 1. Zero and 1 are added."""
    numbers = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        scaled = 10.0 ** (exponent - 6) * middles
        numbers += [*scaled.tolist(), *(-scaled).tolist()]
    return torch.tensor(sorted(numbers), device=device)


def _dynamic(values: Tensor) -> tuple[Tensor, Tensor]:
    """Places in the dynamic table, uint8, and the largest magnitude of each block of 256."""
    count = len(values)
    blocks = -(-count // SCALE_BLOCK)
    padded = F.pad(values, (0, blocks * SCALE_BLOCK - count)).view(blocks, SCALE_BLOCK)
    largest = padded.abs().amax(dim=1)
    table = dynamic_table(values.device)
    middles = (table[1:] + table[:-1]) / 2
    divided = padded / torch.where(largest > 0, largest, 1.0)[:, None]
    return torch.bucketize(divided, middles).to(torch.uint8).flatten()[:count], largest


class _Product(torch.autograd.Function):
    """x W^T whose backward makes W again instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FourBitLinear) -> Tensor:
        ctx.layer = layer
        return F.linear(x, layer.held.dequantized(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = grad_outputs
        return gradient @ ctx.layer.held.dequantized(gradient.dtype), None


class FourBitLinear(nn.Module):
    """A linear layer with a frozen weight in four bits; its bias is the layer's own, frozen too."""

    codes: Tensor
    scale: Tensor
    scale_of_scales: Tensor | None
    mean: Tensor | None

    def __init__(self, weight: FourBitWeight, bias: Tensor | None) -> None:
        super().__init__()
        self.form, self.block, self.shape = weight.form, weight.block, weight.shape
        self.out_features, self.in_features = weight.shape
        self.register_buffer("codes", weight.codes, persistent=False)
        self.register_buffer("scale", weight.scale, persistent=False)
        self.register_buffer("scale_of_scales", weight.scale_of_scales, persistent=False)
        self.register_buffer("mean", weight.mean, persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    @classmethod
    def of(cls, linear: nn.Linear, form: str, *, double: bool = False) -> FourBitLinear:
        """A layer's weight in one of FORMATS. ConfigError for another, and for inputs that int4 cannot group."""
        if form not in FORMATS:
            raise ConfigError(f"unknown format {form!r:.40}", hint=nearest(form, FORMATS))
        weight = quantize_nf4(linear.weight, double=double) if form == "nf4" else quantize_int4(linear.weight)
        return cls(weight, linear.bias)

    def _apply(self, fn: Any, recurse: bool = True) -> FourBitLinear:
        """To another device, but not to another type: scales stay as exact as they are."""
        device = fn(torch.empty(0, device=self.codes.device, dtype=torch.float32)).device
        super()._apply(lambda tensor: tensor.to(device), recurse)
        return self

    @property
    def held(self) -> FourBitWeight:
        """The weight as it lies here."""
        return FourBitWeight(self.codes, self.scale, self.shape, self.form, self.block, self.scale_of_scales, self.mean)

    @property
    def weight(self) -> Tensor:
        """(O, I) float32, made anew."""
        return self.held.dequantized()

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., O), in the type that autocast says, or x's."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        out: Any = _Product.apply(x, self)
        return out if self.bias is None else out + self.bias.to(out.dtype)


def to_four_bits(model: nn.Module, form: str, *, double: bool = False) -> tuple[int, int]:
    """Put every linear layer of the blocks of a model in four bits, one after the other; the output head, embeddings
    and norms stay, as in the paper. Returns the bytes of those layers' weights before and after."""
    before = after = 0
    for path, module in list(model.named_modules()):
        if type(module) is not nn.Linear or ".layers." not in f".{path}":
            continue
        made = FourBitLinear.of(module, form, double=double)
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, made)
        before, after = before + module.weight.nbytes, after + made.held.nbytes
    if not before:
        raise ConfigError("the model has no linear layers to put in four bits")
    return before, after
