"""A matrix in native memory, laid out for the kernels: multiplied with, and read back as it was given.

This module does not know layers or models.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import DeviceError
from bloomery.models.native.library import FORMATS, MatrixFields

_BITS = {32: "float32", 16: "float16", 8: "int8", 4: "int4"}
_GROUP, _PANEL = 32, 16
_SPIN_NANOSECONDS = 50_000  # PyTorch's own threads want the processors between two products


class Matrix:
    """A linear layer's (O, I) weights, and its bias; freed with the object. It never changes."""

    def __init__(self, calls: ctypes.CDLL, codes: Tensor, scale: Tensor | None, bias: Tensor | None, bits: int) -> None:
        """As in `Stored`. DeviceError for groups that the kernels do not read, or without memory."""
        self._calls, self.pointer = calls, None
        self.outputs, self.inputs = codes.shape
        self.format = _BITS[bits]
        group_size = 0
        scale = None if scale is None else scale.detach().float().contiguous()
        if scale is not None:
            group_size = self.inputs // scale.size(1)
            if self.format == "int8" and scale.size(1) != 1:
                raise DeviceError("the native step reads 8-bit weights with one scale for each output")
            if self.format == "int4" and (group_size % _GROUP or not torch.equal(scale, scale.bfloat16().float())):
                raise DeviceError(f"the native step reads 4-bit weights in groups of {_GROUP} with bfloat16 scales")
        codes = codes.detach().contiguous()
        bias = None if bias is None else bias.detach().float().contiguous()
        given = (codes.data_ptr(), 0 if scale is None else scale.data_ptr(), 0 if bias is None else bias.data_ptr())
        number = FORMATS[self.format]
        self.pointer = calls.bloomery_matrix(number, self.outputs, self.inputs, group_size, *given)
        if not self.pointer:
            raise DeviceError("no memory for the native step's weights")

    @property
    def nbytes(self) -> int:
        """Bytes of its weights and scales."""
        return self._calls.bloomery_bytes(self.pointer)

    def multiply(self, x: Tensor, threads: int = 1) -> Tensor:
        """(N, I) float32 -> (N, O); results are the same whatever the threads."""
        x = x.detach().float().contiguous()
        out = torch.empty(x.size(0), self.outputs)
        given = (self.pointer, x.data_ptr(), x.size(0), out.data_ptr(), threads, _SPIN_NANOSECONDS)
        if x.size(0) and self._calls.bloomery_multiply(*given):
            raise DeviceError("no memory for a product")
        return out

    def codes(self) -> Tensor:
        """(O, I) as they were given: float32, float16 or int8."""
        panels, inputs = self._fields.panels, self.inputs
        if self.format == "int4":
            pairs = self._read("weights", torch.uint8, (panels, inputs // _GROUP, 8, 8, 4))  # fours, outputs, inputs
            both = torch.stack((pairs & 15, pairs >> 4), 1)  # the outputs' halves
            found = both.permute(0, 1, 4, 2, 3, 5).reshape(panels * _PANEL, inputs).to(torch.int8) - 8
        elif self.format == "int8":
            pairs = self._read("weights", torch.int8, (panels, (inputs + 1) // 2, _PANEL, 2))
            found = pairs.transpose(1, 2).reshape(panels * _PANEL, -1)
        else:
            dtype = torch.float32 if self.format == "float32" else torch.float16
            found = self._read("weights", dtype, (panels, inputs, _PANEL)).transpose(1, 2).reshape(-1, inputs)
        return found[: self.outputs, :inputs].clone()

    def scale(self) -> Tensor | None:
        """(O, G) float32: one for each output of int8, for each 32 inputs of int4; None for floats."""
        panels = self._fields.panels
        if self.format == "int8":
            return self._read("scales", torch.float32, (panels * _PANEL, 1))[: self.outputs].clone()
        if self.format != "int4":
            return None
        kept = self._read("scales", torch.bfloat16, (panels, self.inputs // _GROUP, _PANEL))
        return kept.transpose(1, 2).reshape(panels * _PANEL, -1)[: self.outputs].float()

    @property
    def _fields(self) -> MatrixFields:
        assert self.pointer is not None
        return MatrixFields.from_address(self.pointer)

    def _read(self, field: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A view of native memory: to be copied while the matrix is there."""
        size = dtype.itemsize
        for one in shape:
            size *= one
        memory: Any = (ctypes.c_byte * size).from_address(getattr(self._fields, field))
        return torch.frombuffer(memory, dtype=dtype).view(shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> Matrix:
        return self  # nothing can tell a copy from it

    def __del__(self) -> None:
        if self.pointer:
            self._calls.bloomery_free(self.pointer)
            self.pointer = None
