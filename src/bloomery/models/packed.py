"""Packed linear layers: one matrix laid out for a fast operator, in float32, float16, or 8 or 4 bits.

| format | on the CPU | on CUDA |
|---|---|---|
| float32 | oneDNN's blocked layout | as it is |
| float16, bfloat16 | FBGEMM's float16 (float32 activations and sums); no bfloat16 | half-precision products |
| int8 | FBGEMM, activations rounded to 7 bits row by row, exact integer sums | - |
| int8-weight-only | PyTorch's int8 kernel, bfloat16 activations | the same |
| int4 | PyTorch's int4 kernel, groups, bfloat16 activations | the same (tinygemm) |

These operators are private to PyTorch, change between releases, and some return uninitialised memory for arguments
that they do not expect. So each layer is compared, on its own shape, with the dequantised weights in float32 before
it is used (`checked`); of code of our own a layer of that shape within the last month. A row's result never depends on
the other rows. Forward only. Shapes: O outputs, I inputs. This module does not know which layers a
model has (see `packing`).
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, DeviceError
from bloomery.models.quantize import QuantizedWeight, quantize

ROWS_BY_DEQUANTIZING = 32
"""Beyond so many rows, weights of the bfloat16 kernels are dequantised for each product, which is then float32."""
_HINTED_ROWS = 8
_INT4_OUTPUTS = 16
"""The int4 kernels want a multiple of this many outputs."""
_INT8_INPUTS = 32
"""The int8 kernel reads past the end of a row that is no multiple of this, which no comparison catches in time."""
_BFLOAT16_ERROR = 0.01
"""bfloat16 keeps 8 bits: inputs, sums and outputs are each rounded by up to 2^-9 = 0.2%."""


class Stored(NamedTuple):
    """A packed matrix in the open: `codes` (O, I) float32, float16 or int8, `scale` (O, G) float32 or None, `bias` (O,)
    or None, and the bits of a code."""

    codes: Tensor
    scale: Tensor | None
    bias: Tensor | None
    bits: int


class PackedLinear(nn.Module, ABC):
    """x (..., I) float32 -> (..., O) float32, as nn.Linear does it; forward only.

    `format` is what it is in, `asked` what was asked for, `fallback` why that is another, if it is.
    """

    format = ""
    asked = ""
    fallback = ""
    is_sound = False
    """Whether it needs no check, for another layer of its shape passed it: that is for code of our own."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        super().train(False)

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """(O, I) float32, computed anew: what the packed weights stand for."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes that the packed weights take."""

    @abstractmethod
    def stored(self) -> Stored:
        """What it keeps, for another operator: exactly the numbers that it multiplies with."""

    @abstractmethod
    def tolerance(self, x: Tensor) -> float:
        """The largest relative error that the operator's own arithmetic explains, beside `weight` in float32."""

    def passed(self) -> None:
        """It has passed its check."""
        return

    def train(self, mode: bool = True) -> PackedLinear:
        if mode:
            raise ConfigError("packed weights cannot be trained", hint="load the model without weights=")
        return self

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.format}"


class Float32Linear(PackedLinear):
    """oneDNN's blocked layout: exact up to the order of sums."""

    format = "float32"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias)
        _needs(weight, "cpu")
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().float().contiguous(), _HINTED_ROWS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x.float(), self._packed, self.bias, "none", [], "")

    @property
    def weight(self) -> Tensor:
        return self._packed.to_dense()

    def stored(self) -> Stored:
        return Stored(self.weight, None, self.bias, 32)

    @property
    def nbytes(self) -> int:
        return 4 * self.out_features * self.in_features

    def tolerance(self, x: Tensor) -> float:
        return 1e-4  # sums in another order: a few hundred times 2^-24 would already be much


class Float16Linear(PackedLinear):
    """FBGEMM: weights rounded to float16, activations and sums in float32."""

    format = "float16"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, None)
        _needs(weight, "cpu")
        if float(weight.abs().max()) > torch.finfo(torch.float16).max:
            raise DeviceError("a weight is too large for float16")
        # It holds the bias itself.
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight.detach().float().contiguous(), _float(bias))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 1:
            return self(x[None])[0]
        return torch.ops.quantized.linear_dynamic_fp16(x.float(), self._packed)

    @property
    def weight(self) -> Tensor:
        return torch.ops.quantized.linear_unpack_fp16(self._packed)[0]

    def stored(self) -> Stored:
        weight, bias = torch.ops.quantized.linear_unpack_fp16(self._packed)
        return Stored(weight.half(), None, bias, 16)

    @property
    def held_bias(self) -> Tensor | None:
        """(O,) float32: the bias that the operator adds itself."""
        return torch.ops.quantized.linear_unpack_fp16(self._packed)[1]

    @property
    def nbytes(self) -> int:
        return 2 * self.out_features * self.in_features

    def tolerance(self, x: Tensor) -> float:
        return 1e-4


class Int8Linear(PackedLinear):
    """FBGEMM: 8-bit weights, one scale per output; each row of activations is rounded to 7 bits of its own range.

    Seven, for without VNNI the pairwise sums of eight would overflow 16 bits. FBGEMM rounds a whole batch by one
    range; rows are brought to [-1, 1] first, and two more inputs, with weights zero, hold that range's ends: so
    neither an outlier nor a neighbour in the batch changes a row's result.
    """

    format = "int8"

    def __init__(self, weight: Tensor, bias: Tensor | None, known: QuantizedWeight | None = None) -> None:
        super().__init__(weight, bias)
        _needs(weight, "cpu")
        known = _with_one_scale(known or quantize(weight, 8))
        codes = F.pad(known.codes, (0, 2)).contiguous()
        with warnings.catch_warnings():
            # Deprecated in torch 2.13; where it is gone this raises, and the caller falls back.
            warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
            scale, zero = known.scale[:, 0].double(), torch.zeros(self.out_features, dtype=torch.int64)
            # Not by torch.ops: from there the warning goes to stderr past Python's filters.
            quantized = torch._make_per_channel_quantized_tensor(codes, scale, zero, 0)  # pyright: ignore[reportPrivateImportUsage]
            self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        self._multiply = torch.ops.quantized.linear_dynamic.default
        self._ends = torch.tensor([1.0, -1.0])

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 1:
            return self(x[None])[0]
        # Few and small operators: at one row each costs a tenth of the product.
        largest = torch.linalg.vector_norm(x.float(), torch.inf, -1, True).clamp_min_(1e-30)
        rows = torch.cat((x / largest, self._ends.expand(*x.shape[:-1], 2)), -1)
        out = self._multiply(rows, self._packed, True).mul_(largest)
        return out if self.bias is None else out.add_(self.bias)

    @property
    def weight(self) -> Tensor:
        return torch.ops.quantized.linear_unpack(self._packed)[0].dequantize()[:, :-2]

    def stored(self) -> Stored:
        weight = torch.ops.quantized.linear_unpack(self._packed)[0]
        scale = weight.q_per_channel_scales().float()[:, None]
        return Stored(weight.int_repr()[:, :-2], scale, self.bias, 8)

    @property
    def nbytes(self) -> int:
        return self.out_features * (self.in_features + 2 + 8)

    def tolerance(self, x: Tensor) -> float:
        # A rounded activation is off by up to half a step of 2/127 of its row's largest: step / sqrt(12) on average.
        # The outputs' relative error is that of the inputs on average over outputs; three times it is no accident.
        step = 2 / 127 * float(x.abs().amax())
        return 3 * step / math.sqrt(12) / float(x.square().mean().sqrt())


class Int8WeightOnlyLinear(PackedLinear):
    """PyTorch's own kernel: 8-bit weights, one scale per output, bfloat16 activations."""

    format = "int8-weight-only"
    _codes: Tensor
    _scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, known: QuantizedWeight | None = None) -> None:
        super().__init__(weight, bias)
        if self.in_features % _INT8_INPUTS:
            raise DeviceError(f"the kernel reads {_INT8_INPUTS} inputs at a time, not {self.in_features}")
        known = _with_one_scale(known or quantize(weight, 8))
        self.register_buffer("_codes", known.codes.contiguous().to(weight.device), persistent=False)
        self.register_buffer("_scale", known.scale[:, 0].bfloat16().to(weight.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.in_features)
        if flat.size(0) > ROWS_BY_DEQUANTIZING:
            return F.linear(x, self.weight.to(x.dtype), self.bias)
        out = torch.ops.aten._weight_int8pack_mm(flat.bfloat16(), self._codes, self._scale).to(x.dtype)
        if self.bias is not None:
            out += self.bias
        return out.view(*x.shape[:-1], self.out_features)

    @property
    def weight(self) -> Tensor:
        return self._codes.float() * self._scale.float()[:, None]

    def stored(self) -> Stored:
        return Stored(self._codes, self._scale.float()[:, None], self.bias, 8)

    @property
    def nbytes(self) -> int:
        return self._codes.nbytes + self._scale.nbytes

    def tolerance(self, x: Tensor) -> float:
        return _BFLOAT16_ERROR


class Int4Linear(PackedLinear):
    """PyTorch's own kernels: 4-bit weights in groups, bfloat16 activations.

    The operator's layout cannot be read back, so the codes are kept beside it, two to a byte.
    """

    format = "int4"
    _pairs: Tensor
    _packed: Tensor
    _scale: Tensor
    _scale_and_zero: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor | None, known: QuantizedWeight | None = None, *, group_size: int = 32
    ) -> None:
        super().__init__(weight, bias)
        known = known or quantize(weight, 4, group_size)
        self.group_size = known.group_size
        rest = -self.out_features % _INT4_OUTPUTS
        shifted = F.pad((known.codes + 8).to(weight.device), (0, 0, 0, rest))
        pairs = (shifted[:, 0::2] | (shifted[:, 1::2] << 4)).view(torch.uint8)
        scale = F.pad(known.scale.bfloat16().to(weight.device), (0, 0, 0, rest))
        both = torch.stack([scale.t(), torch.zeros_like(scale.t())], dim=-1).contiguous()
        self.register_buffer("_pairs", pairs.contiguous(), persistent=False)
        self.register_buffer("_scale", scale, persistent=False)
        self.register_buffer("_scale_and_zero", both, persistent=False)
        self.register_buffer("_packed", _int4_packed(shifted), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.in_features)
        if flat.size(0) > ROWS_BY_DEQUANTIZING:
            return F.linear(x, self.weight.to(x.dtype), self.bias)
        operators: Any = torch.ops.aten
        multiply = operators._weight_int4pack_mm if x.is_cuda else operators._weight_int4pack_mm_for_cpu
        out = multiply(flat.bfloat16(), self._packed, self.group_size, self._scale_and_zero).to(x.dtype)
        out = out[:, : self.out_features]
        if self.bias is not None:
            out += self.bias
        return out.reshape(*x.shape[:-1], self.out_features)

    def stored(self) -> Stored:
        codes = torch.stack([self._pairs & 15, self._pairs >> 4], dim=-1).flatten(1).to(torch.int8) - 8
        return Stored(codes[: self.out_features], self._scale.float()[: self.out_features], self.bias, 4)

    @property
    def weight(self) -> Tensor:
        codes = torch.stack([self._pairs & 15, self._pairs >> 4], dim=-1).flatten(1)
        grouped = codes.unflatten(1, (-1, self.group_size)).float().sub_(8)
        return grouped.mul_(self._scale.float()[..., None]).flatten(1)[: self.out_features]

    @property
    def nbytes(self) -> int:
        return self._pairs.nbytes + self._packed.nbytes + self._scale.nbytes + self._scale_and_zero.nbytes

    def tolerance(self, x: Tensor) -> float:
        return _BFLOAT16_ERROR


class HalfLinear(PackedLinear):
    """On CUDA: weights in a half-precision type, products in it too."""

    _half: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__(weight, bias)
        _needs(weight, "cuda")
        self.format = str(dtype).removeprefix("torch.")
        self.register_buffer("_half", weight.detach().to(dtype).contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.linear(x.to(self._half.dtype), self._half).to(x.dtype)
        return out if self.bias is None else out + self.bias

    def stored(self) -> Stored:
        return Stored(self.weight, None, self.bias, 32)  # float32 holds either half-precision type exactly

    @property
    def weight(self) -> Tensor:
        return self._half.float()

    @property
    def nbytes(self) -> int:
        return self._half.nbytes

    def tolerance(self, x: Tensor) -> float:
        return _BFLOAT16_ERROR


CPU_FORMATS = ("float32", "float16", "int8", "int8-weight-only", "int4")
CUDA_FORMATS = ("float16", "bfloat16", "int8-weight-only", "int4")
BITS = {"int8": 8, "int8-weight-only": 8, "int4": 4}
"""Bits of a weight in the formats that round to integers."""


def packed(
    weight: Tensor, bias: Tensor | None, kind: str, *, known: QuantizedWeight | None = None, group_size: int = 32
) -> PackedLinear:
    """(O, I) and (O,) in a format; `known` are its integers where a file gave them. Raises what the operator raises;
    ConfigError for a format that the weight's device has not."""
    if kind in ("float16", "bfloat16") and weight.is_cuda:
        return HalfLinear(weight, bias, getattr(torch, kind))
    if kind == "float32":
        return Float32Linear(weight, bias)
    if kind == "float16":
        return Float16Linear(weight, bias)
    if kind == "int8":
        return Int8Linear(weight, bias, known)
    if kind == "int8-weight-only":
        return Int8WeightOnlyLinear(weight, bias, known)
    if kind == "int4":
        return Int4Linear(weight, bias, known, group_size=group_size)
    formats = CUDA_FORMATS if weight.is_cuda else CPU_FORMATS
    raise ConfigError(f"weights cannot be packed as {kind!r:.40}", hint="known: " + ", ".join(formats))


@torch.inference_mode()
def checked(layer: PackedLinear, weight: Tensor, bias: Tensor | None) -> PackedLinear:
    """The layer, if its results are those of `weight` (O, I) and `bias` in float32 within its tolerance.

    At 1, 3 and 33 rows of very different sizes, for operators choose kernels by shape; not contiguous, as the last
    position of several sequences is. Raises DeviceError otherwise.
    """
    generator = torch.Generator().manual_seed(0)
    for rows in (1, 3, ROWS_BY_DEQUANTIZING + 1):
        x = torch.randn(rows, 2, layer.in_features, generator=generator)
        x[-1] *= 100.0  # a neighbour that is far larger than the others
        x = x.to(weight.device)[:, -1:]
        expected = F.linear(x, weight.float(), None if bias is None else bias.float())
        got = layer(x)
        if got.shape != expected.shape:
            raise DeviceError(f"{layer.format}: shape {tuple(got.shape)} where {tuple(expected.shape)} was due")
        for row in {0, rows - 1}:
            error = float((got[row] - expected[row]).norm() / expected[row].norm().clamp(min=1e-30))
            if not error <= layer.tolerance(x[row]):  # NaN is no pass
                raise DeviceError(
                    f"{layer.format}: the operator is off by {error:.2g} of its result at {rows} rows,"
                    f" at most {layer.tolerance(x[row]):.2g} is explained"
                )
    return layer


def _int4_packed(codes: Tensor) -> Tensor:
    """Codes 0 .. 15 (O, I) in the layout of the device's own operator."""
    if codes.is_cuda:
        pairs = ((codes[:, 0::2] << 4) | codes[:, 1::2]).view(torch.uint8)
        return torch.ops.aten._convert_weight_to_int4pack(pairs.contiguous(), 8 if codes.size(1) % 128 == 0 else 2)
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.to(torch.int32), 2)


def _with_one_scale(known: QuantizedWeight) -> QuantizedWeight:
    if known.scale.size(1) > 1:
        raise DeviceError(f"the operator has one scale for each output, not for {known.group_size} inputs")
    return known


def _float(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().float()


def _needs(weight: Tensor, device: str) -> None:
    if weight.device.type != device:
        raise DeviceError(f"this layout is for {device} only, and the weights are on {weight.device}")
