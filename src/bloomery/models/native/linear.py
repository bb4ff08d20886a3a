"""Packed linear layers whose weights lie in native memory: PyTorch's operators and native steps read the same copy.

They take the place of PyTorch's packed layers on the CPU where they are faster, which is measured for a format on one
matrix, and remembered for a month. Weights and products are those of a native step: float32 sums; for int8 weights in
groups, activations of 16 bits and exact integer sums within a group; for int4 activations of 8 bits in groups of 32.
Forward only. This module does not know models.
"""

from __future__ import annotations

import logging
import math
import time
from functools import cache

import torch
from torch import Tensor

from bloomery.core.errors import DeviceError
from bloomery.models.native.library import library
from bloomery.models.native.matrix import Matrix
from bloomery.models.native.verdicts import is_known, make_known
from bloomery.models.packed import PackedLinear, Stored, packed
from bloomery.models.quantize import QuantizedWeight, quantize

log = logging.getLogger("bloomery.models")

_BYTES_OF_A_THREAD = 1 << 16
"""Of weights, for a row: with fewer for each thread, meeting costs more than sharing the work saves."""
_TOLERANCE = {"float32": 1e-4, "float16": 1e-4, "int8": 2e-4, "int4": 0.02}
"""Sums in another order; inputs rounded to 32,767 steps; to 127 steps in groups of 32."""
_INT8_GROUPS = (64, 96, 48, 32)
"""Inputs that share a scale in int8, the first of these that divides a row; else all do."""
_TRIED, _ROWS, _ROUNDS = (768, 512), (1, 16, 128), 5


class NativeLinear(PackedLinear):
    """See the module; `matrix` is what a native step reads."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        kind: str,
        known: QuantizedWeight | None = None,
        *,
        group_size: int = 32,
    ) -> None:
        """DeviceError where there is no library, for weights elsewhere, and as `Matrix`."""
        super().__init__(weight, bias)
        calls = library().calls
        if calls is None or weight.device.type != "cpu":
            raise DeviceError(library().text if calls is None else "native layers are for the CPU only")
        self.format, scale, bits = kind, None, 32
        if kind in ("int8", "int4"):
            bits = 8 if kind == "int8" else 4
            known = known or quantize(weight, bits, int8_group(weight.size(1)) if bits == 8 else group_size)
            codes, scale = known.codes, known.scale.float() if kind == "int8" else known.scale.bfloat16().float()
        elif kind == "float16":
            if max(map(abs, map(float, weight.aminmax()))) > torch.finfo(torch.float16).max:
                raise DeviceError("a weight is too large for float16")
            codes, bits = weight.detach().half(), 16
        else:
            codes = weight.detach().float()
        self.matrix = Matrix(calls, codes, scale, bias, bits)
        self._bits = bits

    @property
    def is_sound(self) -> bool:
        return is_known("sound", *self.matrix.layout)

    def passed(self) -> None:
        make_known("sound", *self.matrix.layout)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        shares = 1 + self.matrix.nbytes * rows.size(0) // _BYTES_OF_A_THREAD
        out = self.matrix.multiply(rows, min(torch.get_num_threads(), shares))
        return out.view(*x.shape[:-1], self.out_features)

    @property
    def weight(self) -> Tensor:
        codes, scale = self.matrix.codes().float(), self.matrix.scale()
        return codes if scale is None else codes.unflatten(1, (scale.size(1), -1)).mul_(scale[..., None]).flatten(1)

    def stored(self) -> Stored:
        return Stored(self.matrix.codes(), self.matrix.scale(), self.bias, self._bits)

    @property
    def nbytes(self) -> int:
        return self.matrix.nbytes

    def tolerance(self, x: Tensor) -> float:
        return _TOLERANCE[self.format]


def natively_packed(
    weight: Tensor, bias: Tensor | None, kind: str, *, known: QuantizedWeight | None = None, group_size: int = 32
) -> PackedLinear:
    """As `packed`, in native memory where that is possible and faster."""
    if kind in _TOLERANCE and weight.device.type == "cpu" and library().calls is not None and is_faster(kind):
        try:
            return NativeLinear(weight, bias, kind, known, group_size=group_size)
        except DeviceError as error:
            log.info("a layer in %s is PyTorch's: %s", kind, error)
    return packed(weight, bias, kind, known=known, group_size=group_size)


def int8_group(inputs: int) -> int | None:
    """How many inputs of a row of so many share a scale in int8; None: all."""
    return next((size for size in _INT8_GROUPS if inputs % size == 0), None)


@cache
def is_faster(kind: str) -> bool:
    """Whether native products of a format take less time than PyTorch's here, over few and many rows together."""
    if is_known("faster", kind):
        return True
    if found := _is_faster(kind):
        make_known("faster", kind)
    return found


def _is_faster(kind: str) -> bool:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(_TRIED, generator=generator)
    known = quantize(weight, 4, 32, clips=False) if kind == "int4" else None
    try:
        theirs = packed(weight, None, kind, known=known)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError) as error:
        log.info("PyTorch has no %s here: %s", kind, str(error).partition("\n")[0])
        return True
    layers = (NativeLinear(weight, None, kind, known), theirs)
    score = 0.0
    with torch.inference_mode():
        for rows in _ROWS:
            x, least = torch.randn(rows, _TRIED[1], generator=generator), [math.inf, math.inf]
            for round_ in range(_ROUNDS + 1):  # the first warms up
                for number, layer in enumerate(layers):
                    before = time.perf_counter()
                    layer(x)
                    if round_:
                        least[number] = min(least[number], time.perf_counter() - before)
            score += math.log(least[1] / least[0])
    log.info("layers in %s: native ones take %.2f of the time of PyTorch's", kind, math.exp(-score / len(_ROWS)))
    return score > 0.0
