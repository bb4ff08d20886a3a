"""GGUF in: a file's header, every count checked against the file, and its tensors as the numbers that they stand for.

The header is read here, not by ggml's `gguf` library: it makes an object of every element of an array, and goes on for
as long as a count says, also behind the file's end. Sizes of types and their numbers are the library's. The file is
mapped, so that a tensor is read when it is asked for. This module does not know families or tokenizers. Format:
github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bloomery.core.errors import ConfigError, DataError, MissingExtraError
from bloomery.engine.finding import MAGIC

_VERSIONS = (2, 3)
_COPY = "download or copy it again"
_MAX_COUNT = 1 << 16
_MAX_STRINGS = 1 << 23
"""In arrays, all together."""
_MAX_NAME_BYTES = 1 << 10
_MAX_STRING_BYTES = 1 << 24
_MAX_DIMENSIONS = 4
_STEP = 1 << 22
"""Numbers that are made float32 at a time."""
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_SCALARS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8"} | {
    12: "<f8"
}
_LARGEST = torch.finfo(torch.float16).max
_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A tensor as it lies in the file. `shape` is outermost dimension first, `data` its bytes, `kind` ggml's name."""

    name: str
    shape: tuple[int, ...]
    kind: str
    data: np.ndarray

    @property
    def plain(self) -> bool:
        """Whether its numbers are floats of 16 or 32 bits."""
        return self.kind in _PLAIN

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def read(self, dtype: torch.dtype) -> Tensor:
        """Its numbers, in `shape`. ConfigError for a kind that the library does not know or a number too large for
        `dtype`; at most a few million are float32 at a time."""
        out = torch.empty(self.shape, dtype=dtype)
        rows, width = self.size // self.shape[-1], self.shape[-1]
        lines, data = out.view(rows, width), self.data.reshape(rows, -1)
        step = max(1, _STEP // width)
        for start in range(0, rows, step):
            part = self._numbers(data[start : start + step])
            lines[start : start + step] = part
            if dtype == torch.float16 and part.dtype != dtype and not _fits_float16(part):
                raise ConfigError(
                    f"tensor {self.name!r:.80} has numbers that float16 does not hold", hint="--dtype float32"
                )
        return out

    def _numbers(self, data: np.ndarray) -> Tensor:
        if self.plain:
            return torch.from_numpy(np.array(data)).view(_PLAIN[self.kind])
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        try:
            with np.errstate(all="ignore"):
                return torch.from_numpy(dequantize(np.array(data), GGMLQuantizationType[self.kind]))
        except NotImplementedError:
            raise ConfigError(
                f"tensor {self.name!r:.80} is of type {self.kind}, which the library gguf does not read",
                hint="take a file of another quantisation, or a newer gguf",
            ) from None


def _fits_float16(numbers: Tensor) -> bool:
    low, high = (float(end) for end in numbers.aminmax())
    return low >= -_LARGEST and high <= _LARGEST  # neither is true of a NaN


@dataclass(frozen=True, kw_only=True)
class GgufContents:
    """What a file says: `values` by key (numbers, texts, lists of texts, arrays), `tensors` by name."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, StoredTensor] = field(default_factory=dict)

    def number(self, key: str, default: float | None = None) -> Any:
        """A number; DataError if it is another thing, or if it is missing and has no default."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.damaged(f"{key} should be a number, not {value!r:.40}")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """As `number`: a whole one. A list of one for each layer that are all the same is read as that one."""
        value = self.values.get(key, default)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iu":
            if (value != value[0]).any():
                raise ConfigError(
                    f"{self.path}: {key} differs from layer to layer, which is not supported",
                    hint="import the model's folder of safetensors instead",
                )
            value = int(value[0])
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.damaged(f"{key} should be a whole number, not {value!r:.40}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false; DataError for anything else."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.damaged(f"{key} should be true or false, not {value!r:.40}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A text; DataError if it is another thing, or if it is missing and has no default."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.damaged(f"{key} should be a text, not {value!r:.40}")
        return value

    def damaged(self, what: str) -> DataError:
        """The error to raise where the file contradicts itself."""
        return DataError(f"{self.path} is damaged: {what}", hint=_COPY)


def read_gguf(path: str | Path) -> GgufContents:
    """A file's keys and where its tensors lie; none is read yet, and the file stays mapped while one is held.

    DataError for a file that is missing, no GGUF, cut off, or whose counts, shapes or offsets do not fit it;
    ConfigError for one of several parts; MissingExtraError without the `gguf` library.
    """
    path = Path(path).expanduser()
    sizes = _sizes()
    if not path.is_file():
        raise DataError(f"{path} is no file", hint="give the path of a .gguf file")
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint=_COPY) from error
    try:
        return _contents(path, _Cursor(data), sizes)
    except _DamagedError as error:
        raise DataError(f"{path} {error}", hint=error.hint) from None


def _sizes() -> dict[int, tuple[str, int, int]]:
    """Each type's name, the numbers of a block, and its bytes, by ggml's number."""
    try:
        from gguf import GGML_QUANT_SIZES
    except ImportError:
        raise MissingExtraError("gguf", "gguf", "reading GGUF files") from None
    return {int(kind): (kind.name, *size) for kind, size in GGML_QUANT_SIZES.items()}


class _DamagedError(Exception):
    def __init__(self, what: str, hint: str = _COPY) -> None:
        super().__init__(what)
        self.hint = hint


class _Cursor:
    """A place in the file; it never goes behind the end."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.place, self.strings = data, 0, 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.place:
            raise _DamagedError(f"is cut off or damaged: byte {self.place} asks for {count:,} more than there are")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, limit: int = _MAX_STRING_BYTES) -> str:
        size = self.number("<Q")
        if size > limit:
            raise _DamagedError(f"is damaged: a text of {size:,} bytes at byte {self.place}")
        try:
            return str(self.take(size), "utf-8")
        except UnicodeDecodeError:
            raise _DamagedError(f"is damaged: a text that ends at byte {self.place} is not UTF-8") from None

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.array(self.number("<I"), self.number("<Q"))
        value = self.scalars(kind, 1)[0]
        # The shortest decimal that float32 reads as this number is what was meant: 1e-6, not 9.99999997e-7.
        return float(str(value)) if kind == _FLOAT32 else value.item()

    def array(self, kind: int, count: int) -> Any:
        if kind != _STRING:
            return self.scalars(kind, count)
        self.strings += count
        if self.strings > _MAX_STRINGS:
            raise _DamagedError(f"is damaged: it has arrays of {self.strings:,} texts")
        if 8 * count > len(self.data) - self.place:  # each has its length before it
            raise _DamagedError(f"is cut off or damaged: byte {self.place} asks for {count:,} texts")
        return [self.text() for _ in range(count)]

    def scalars(self, kind: int, count: int) -> np.ndarray:
        form = _SCALARS.get(kind)
        if form is None:
            raise _DamagedError(f"is damaged: byte {self.place} names a type {kind} of value")
        size = np.dtype(form).itemsize
        return np.frombuffer(self.take(count * size), dtype=form)


def _contents(path: Path, cursor: _Cursor, sizes: dict[int, tuple[str, int, int]]) -> GgufContents:
    if bytes(cursor.data[: len(MAGIC)]) != MAGIC:
        raise _DamagedError("is no GGUF file: it does not begin with GGUF", "give a file that llama.cpp reads")
    cursor.place = len(MAGIC)
    version = cursor.number("<I")
    if version not in _VERSIONS:
        big = version & 0xFFFF == 0
        what = "is a big-endian GGUF file" if big else f"is a GGUF file of version {version}"
        raise _DamagedError(f"{what}, which is not read", "convert the model again with a llama.cpp of today")
    num_tensors, num_values = cursor.number("<Q"), cursor.number("<Q")
    if max(num_tensors, num_values) > _MAX_COUNT:
        raise _DamagedError(f"is damaged: it says that it has {num_tensors:,} tensors and {num_values:,} keys")
    values: dict[str, Any] = {}
    for _ in range(num_values):
        key = cursor.text(_MAX_NAME_BYTES)
        if key in values:
            raise _DamagedError(f"is damaged: it has the key {key!r:.80} twice")
        values[key] = cursor.value(cursor.number("<I"))
    contents = GgufContents(path=path, values=values)
    if contents.whole("split.count", 1) > 1:
        hint = "llama-gguf-split --merge FIRST.gguf WHOLE.gguf puts the parts together"
        raise ConfigError(f"{path} is one of {values['split.count']} parts of a model", hint=hint)
    described = [_described(cursor, sizes) for _ in range(num_tensors)]
    alignment = contents.whole("general.alignment", 32)
    if alignment < 1 or alignment & (alignment - 1):
        raise _DamagedError(f"is damaged: its alignment is {alignment}")
    first = -(-cursor.place // alignment) * alignment
    contents.tensors.update(_placed(cursor, described, first))
    return contents


def _described(cursor: _Cursor, sizes: dict[int, tuple[str, int, int]]) -> tuple[str, tuple[int, ...], str, int, int]:
    """A tensor's name, shape (outermost dimension first), type, bytes, and offset."""
    name = cursor.text(_MAX_NAME_BYTES)
    count = cursor.number("<I")
    if not 1 <= count <= _MAX_DIMENSIONS:
        raise _DamagedError(f"is damaged: tensor {name!r:.80} has {count:,} dimensions")
    shape = tuple(cursor.number("<Q") for _ in range(count))[::-1]
    number, offset = cursor.number("<I"), cursor.number("<Q")
    if number not in sizes:
        raise _DamagedError(
            f"has a tensor {name!r:.80} of an unknown type {number}", "take a newer gguf, or another file"
        )
    kind, block, size = sizes[number]
    if min(shape) < 1 or math.prod(shape) > len(cursor.data) * block or shape[-1] % block:
        raise _DamagedError(f"is damaged: tensor {name!r:.80} of type {kind} has shape {list(shape)}")
    return name, shape, kind, math.prod(shape) // block * size, offset


def _placed(
    cursor: _Cursor, described: list[tuple[str, tuple[int, ...], str, int, int]], first: int
) -> Iterator[tuple[str, StoredTensor]]:
    total, seen = 0, set[str]()
    for name, shape, kind, size, offset in described:
        total += size
        if name in seen:
            raise _DamagedError(f"is damaged: it has the tensor {name!r:.80} twice")
        if first + offset + size > len(cursor.data) or total > len(cursor.data):
            raise _DamagedError(f"is cut off or damaged: tensor {name!r:.80} lies behind its end")
        seen.add(name)
        data = np.frombuffer(cursor.data, np.uint8, count=size, offset=first + offset)
        yield name, StoredTensor(name=name, shape=shape, kind=kind, data=data)


def bits_a_weight(tensors: list[StoredTensor]) -> float:
    """Bits that a number takes in the file, on average."""
    return 8 * sum(tensor.data.nbytes for tensor in tensors) / sum(tensor.size for tensor in tensors)
