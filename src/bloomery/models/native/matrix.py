"""A matrix in native memory, laid out for the kernels: filled, multiplied with, and read back as it was given.

This module does not know layers or models.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.core.errors import DeviceError
from bloomery.models.native.library import FORMATS, PANEL, MatrixFields

_BITS = {32: "float32", 8: "int8", 4: "int4"}
_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.int16,
    "int4": torch.int32,
}
"""Of which numbers a layout consists: pairs of int8, fours of bytes."""
_GROUP = 32
_MOST_OF_INT8 = 512
"""Inputs in a group: of more, whole numbers of 8 by 16 bits might sum up beyond 2^31."""
_SPIN_NANOSECONDS = 50_000  # PyTorch's own threads want the processors between two products


class Matrix:
    """A linear layer's (O, I) weights, and its bias; freed with the object. It never changes."""

    def __init__(
        self,
        calls: ctypes.CDLL,
        codes: Tensor | Sequence[Tensor],
        scale: Tensor | None,
        bias: Tensor | None,
        bits: int,
        half: torch.dtype = torch.float16,
    ) -> None:
        """As in `Stored`, but that codes may be parts, outputs one after the other; `half` is what 16 bits are.
        DeviceError for groups that the kernels do not read, or without memory."""
        self._calls, self.pointer = calls, None
        parts = [codes] if isinstance(codes, Tensor) else list(codes)
        self.outputs, self.inputs = sum(part.size(0) for part in parts), parts[0].size(1)
        self.format = str(half).removeprefix("torch.") if bits == 16 else _BITS[bits]
        scales = None if scale is None else self._checked(scale.detach().float())
        groups, size = (0, 0) if scales is None else (scales.size(1), scales.dtype.itemsize)
        given = (FORMATS[self.format], self.outputs, self.inputs, groups, size, bias is not None)
        self.pointer = calls.bloomery_matrix(*given)
        if not self.pointer:
            raise DeviceError("no memory for the native step's weights")
        with torch.no_grad():
            self._fill(parts)
            if scales is not None:
                self._scales.copy_(_filled_up(scales).view(-1, PANEL, scales.size(1)).transpose(1, 2))
            if bias is not None:
                self._read("bias", torch.float32, (self._fields.panels * PANEL,)).copy_(_filled_up(bias.float()))

    def _checked(self, scale: Tensor) -> Tensor:
        """(O, G) as the kernels read them: in bfloat16 where that holds them exactly."""
        size, rounded = self.inputs // scale.size(1), scale.bfloat16()
        is_exact = torch.equal(scale, rounded.float())
        if self.format == "int4":
            if size % _GROUP or not is_exact:
                raise DeviceError(f"the native step reads 4-bit weights in groups of {_GROUP} with bfloat16 scales")
            return rounded.repeat_interleave(size // _GROUP, 1)
        if scale.size(1) > 1 and (size % 2 or size > _MOST_OF_INT8 or self.inputs % size):
            raise DeviceError(f"the native step reads no 8-bit weights in groups of {size} inputs")
        return rounded if is_exact else scale

    def _fill(self, parts: Sequence[Tensor]) -> None:
        weights = self._weights
        together = weights.size(2) * (2 if self.format == "int4" else 1)
        if any(part.size(0) % together for part in parts[:-1]):
            parts = [torch.cat([*parts])]
        first = 0
        for part in parts:
            whole = part.size(0) // together * together
            for rows in (part[:whole], part[whole:]):  # the last outputs, where they are fewer, are filled up
                if rows.size(0):
                    count = -(-rows.size(0) // together)
                    self._lay_out(_filled_up(rows, together), weights[first : first + count])
                    first += count

    def _lay_out(self, rows: Tensor, to: Tensor) -> None:
        """(P together, I) -> (P, numbers, outputs)."""
        if self.format == "int8":
            rows = F.pad(rows, (0, 1)) if self.inputs % 2 else rows
            rows = rows.contiguous().view(torch.int16)
        elif self.format == "int4":
            fours = (rows + 8).view(torch.int32).view(to.size(0), 2, to.size(2), to.size(1))
            torch.bitwise_or(fours[:, 0].transpose(1, 2), fours[:, 1].transpose(1, 2) << 4, out=to)
            return
        to.copy_(rows.view(to.size(0), to.size(2), to.size(1)).transpose(1, 2))

    @property
    def layout(self) -> tuple[str, int, int, int, int]:
        """Format, outputs, inputs, groups and bytes of a scale: where all are equal, so is what kernels do."""
        return self.format, self.outputs, self.inputs, self._fields.groups, self._fields.scale_bytes

    @property
    def nbytes(self) -> int:
        """Bytes of its weights and scales."""
        return self._fields.bytes

    def multiply(self, x: Tensor, threads: int = 1) -> Tensor:
        """(N, I) float32 -> (N, O); results are the same whatever the threads."""
        x = x.detach().float().contiguous()
        out = torch.empty(x.size(0), self.outputs)
        given = (self.pointer, x.data_ptr(), x.size(0), out.data_ptr(), threads, _SPIN_NANOSECONDS)
        if x.size(0) and self._calls.bloomery_multiply(*given):
            raise DeviceError("no memory for a product")
        return out

    def codes(self) -> Tensor:
        """(O, I) as they were given: floats of 32 or 16 bits, or int8."""
        weights = self._weights
        if self.format == "int4":
            both = weights.view(torch.uint8).unflatten(2, (-1, 4)).permute(0, 2, 1, 3).flatten(2)  # outputs, inputs
            found = (torch.stack((both & 15, both >> 4), 1).flatten(0, 2)).to(torch.int8) - 8
        else:
            found = weights.transpose(1, 2).clone(memory_format=torch.contiguous_format).flatten(0, 1)
            found = found.view(torch.int8) if self.format == "int8" else found
        return found[: self.outputs, : self.inputs].clone()

    def scale(self) -> Tensor | None:
        """(O, G) float32: of int8 as they were given, of int4 one for each 32 inputs; None for floats."""
        if self.format not in ("int8", "int4"):
            return None
        return self._scales.transpose(1, 2).flatten(0, 1)[: self.outputs].to(torch.float32, copy=True)

    @property
    def _fields(self) -> MatrixFields:
        assert self.pointer is not None
        return MatrixFields.from_address(self.pointer)

    @property
    def _weights(self) -> Tensor:
        """(P, numbers, outputs): as decoder_step.h says; of int4 eight outputs, and eight in the high halves."""
        together = {"float16": 2 * PANEL, "bfloat16": 2 * PANEL, "int4": PANEL // 2}.get(self.format, PANEL)
        numbers = {"int8": (self.inputs + 1) // 2, "int4": self.inputs // 4}.get(self.format, self.inputs)
        count = -(-self.outputs // (2 * together if self.format == "int4" else together))
        return self._read("weights", _TYPES[self.format], (count, numbers, together))

    @property
    def _scales(self) -> Tensor:
        """(P, G, 16)"""
        dtype = torch.bfloat16 if self._fields.scale_bytes == 2 else torch.float32
        return self._read("scales", dtype, (self._fields.panels, self._fields.groups, PANEL))

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


def _filled_up(rows: Tensor, to: int = PANEL) -> Tensor:
    """With zeros, to a whole number of panels."""
    rest = -rows.size(0) % to
    return torch.cat((rows, rows.new_zeros(rest, *rows.shape[1:]))) if rest else rows
