"""An image: a decoder as it lies in native memory, in a file that a process maps and computes with at once.

What takes a second at a start (PyTorch, weights read, joined and laid out) is left out then: the file holds the
structures that native code reads (see `library`), everything they point to, and rotary tables. Pointers are kept as
places in the file, and become addresses when it is opened. It is written for one library on one machine, and found by a
key that says so. This module does not know PyTorch, what the key is made of, nor when an image is thrown away.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import mmap
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from bloomery.core.artifact import fsync
from bloomery.core.errors import DataError
from bloomery.models.native.library import PANEL, Layer, MatrixFields, Model, Norm, weight_bytes

_MAGIC = b"bloomery image 1\n"
_LINE, _PAGE = 64, 4096
_MAX_HEADER = 1 << 22
PARTIAL = ".partial"
"""What the name of a half written one ends in."""
_NOT_ONE = (OSError, ValueError, KeyError, TypeError)
_POINTER = ctypes.sizeof(ctypes.c_void_p)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a text needs to know of a decoder beside its structures."""

    context_length: int
    positions: int
    """Rows of the rotary tables: as many tokens a text may have."""
    threads: int
    cache: str
    """In what keys and values are kept: float32 or float16."""
    looks_back: bool
    """Whether the token before each is to be known."""


class Described(Protocol):
    """A `Description`: the structures, all that they point to kept."""

    model: Model
    layers: ctypes.Array[Layer]


Table = tuple[tuple[int, int], tuple[int, int]]
"""(address, bytes of a row) of cosines and of sines."""


class NewImage:
    """A decoder that is ready to be kept; its rotary tables must be there until it is written."""

    def __init__(self, described: Described, tables: Sequence[Table], facts: Facts) -> None:
        layout = _Layout()
        layout.model(described, facts.context_length)
        turned = [[layout.table(address, width * facts.positions) for address, width in both] for both in tables]
        self._described = described  # which keeps what it points to
        self._structures, (self._pieces, moves) = layout.structures, layout.places()
        self._header: dict[str, Any] = {
            "facts": asdict(facts),
            "structures": len(layout.structures),
            "bytes": sum(self._pieces[-1][::2]),
            "moves": moves,
            "tables": [self._pieces[number][0] for both in turned for number in both],
            "widths": [width for both in tables for _, width in both],
        }

    @property
    def nbytes(self) -> int:
        """Of the file, but for its header."""
        return self._header["bytes"]

    def write(self, path: Path, key: str, source: str = "") -> int:
        """Keep it, with a word about where it comes from; there is the whole file or none. Returns its bytes. OSError
        if it cannot be written."""
        text = json.dumps({"key": key, "source": source, **self._header}).encode()
        head = _MAGIC + _digest(text, bytes(self._structures)) + len(text).to_bytes(8, "little")
        start = _padded(len(head) + len(text) + len(self._structures), _PAGE)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=PARTIAL, delete=False) as stream:
            try:
                stream.write(head + text + self._structures)
                for at, address, size in self._pieces:
                    stream.seek(start + at)
                    stream.write((ctypes.c_char * size).from_address(address))
                written = stream.tell()
                stream.flush()
                os.fsync(stream.fileno())
                Path(stream.name).replace(path)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise
        with contextlib.suppress(OSError):
            fsync(path.parent)
        return written


def source_of(path: Path) -> str:
    """The word about where an image comes from; DataError for a file that is none."""
    try:
        with _opened(path) as stream:
            return str(_read_head(stream)[0]["source"])
    except _NOT_ONE as error:
        raise DataError(f"no image in {path}: {error}") from error


class Image:
    """An image that is open, for as long as the object lives. `model` is what native code reads, `tables` for each
    rotary table its cosines' and sines' (address, bytes of a row)."""

    def __init__(self, path: Path, key: str) -> None:
        """DataError for a file that is none, is somebody else's, is damaged, or was kept by another key; that weights
        in it were changed is not seen."""
        try:
            with _opened(path) as stream:
                _check_owner(os.fstat(stream.fileno()))
                header, structures, start = _read_head(stream)
                populate = {"flags": mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0), "prot": mmap.PROT_READ}
                self._mapped = mmap.mmap(stream.fileno(), 0, **populate)
                self.facts = Facts(**header["facts"])
        except _NOT_ONE as error:
            raise DataError(f"no image in {path}: {error}") from error
        if header.get("key") != key:
            raise DataError(f"the image in {path} is of another model or machine")
        self._structures = ctypes.create_string_buffer(structures, len(structures))
        base = np.frombuffer(self._mapped, dtype=np.uint8).ctypes.data + start
        own = ctypes.addressof(self._structures)
        for at, to, inside in header["moves"]:
            address = own + to if inside else base + to
            ctypes.c_void_p.from_buffer(self._structures, at).value = address
        self.model = Model.from_buffer(self._structures)
        pairs = [(base + at, width) for at, width in zip(header["tables"], header["widths"], strict=True)]
        self.tables: list[Table] = list(zip(pairs[::2], pairs[1::2], strict=True))


class _Layout:
    """Structures one after the other, and what else there is, in the order in which a step reads it."""

    def __init__(self) -> None:
        self.structures = bytearray()
        self._inside: list[tuple[int, int]] = []  # a pointer's place, and that of the structure it points to
        self._outside: list[tuple[int | None, int, int]] = []  # a pointer's place, an address, bytes

    def model(self, described: Described, context_length: int) -> None:
        model, layers = described.model, described.layers
        at, first = self._add(model), _padded(ctypes.sizeof(Model), _LINE)
        self.structures.extend(bytes(first - len(self.structures)))
        self._point(at + Model.layer.offset, first)
        for layer in layers:
            self._add(layer, aligned=False)  # they are an array
        self._floats(at, Model, model, _sizes_of_model(model, context_length))
        size = ctypes.sizeof(Layer)
        for number, layer in enumerate(layers):
            place = first + number * size
            self._floats(place, Layer, layer, _sizes_of_layer(model))
            for name in ("qkv", "output", "up", "down"):
                self._matrix(place + getattr(Layer, name).offset, getattr(layer, name))
        self._matrix(at + Model.head.offset, model.head)

    def table(self, address: int, size: int) -> int:
        """The number of its piece."""
        self._outside.append((None, address, size))
        return len(self._outside) - 1

    def places(self) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, bool]]]:
        """(place behind the structures, address, bytes) of each piece, and (place, target, whether that is a structure)
        of each pointer."""
        pieces, moves, end = [], [(at, to, True) for at, to in self._inside], 0
        for at, address, size in self._outside:
            pieces.append((end, address, size))
            if at is not None:
                moves.append((at, end, False))
            end = _padded(end + size, _LINE)
        return pieces, moves

    def _add(self, structure: ctypes.Structure, *, aligned: bool = True) -> int:
        if aligned:
            self.structures.extend(bytes(-len(self.structures) % _LINE))
        at = len(self.structures)
        self.structures += bytes(structure)
        return at

    def _point(self, at: int, to: int) -> None:
        self._clear(at)
        self._inside.append((at, to))

    def _clear(self, at: int) -> None:
        """Addresses of this process are nobody's business."""
        self.structures[at : at + _POINTER] = bytes(_POINTER)

    def _out(self, at: int, address: int | None, size: int) -> None:
        if address:
            self._clear(at)
            self._outside.append((at, address, size))

    def _floats(self, at: int, kind: type[ctypes.Structure], held: ctypes.Structure, sizes: dict[str, int]) -> None:
        """Floats that a structure points to, and its norms."""
        for name, size in sizes.items():
            self._out(at + getattr(kind, name).offset, getattr(held, name), 4 * size)
        for place, norm in _norms(kind, held):
            for name in ("weight", "bias"):
                self._out(at + place + getattr(Norm, name).offset, getattr(norm, name), 4 * norm.size)

    def _matrix(self, at: int, address: int) -> None:
        fields = MatrixFields.from_address(address)
        place = self._add(fields)
        self._point(at, place)
        weights = weight_bytes(fields)
        sizes = {"weights": weights, "scales": fields.bytes - weights, "bias": 4 * fields.panels * PANEL}
        for name, size in sizes.items():
            self._out(place + getattr(MatrixFields, name).offset, getattr(fields, name), size)


def _norms(kind: type[ctypes.Structure], held: ctypes.Structure) -> Iterator[tuple[int, Norm]]:
    for name, type_ in kind._fields_:  # type: ignore[misc]
        if type_ is Norm:
            yield getattr(kind, name).offset, getattr(held, name)


def _sizes_of_model(model: Model, context_length: int) -> dict[str, int]:
    """How many floats its pointers show."""
    return {
        "embedding": model.vocabulary * model.hidden,
        "positions": context_length * model.hidden,
        "slopes": model.heads,
        "smear": model.smear_inputs + 1,
        "bigrams": model.bigram_rows * model.hidden,
    }


def _sizes_of_layer(model: Model) -> dict[str, int]:
    keys = model.kv_heads
    return {"token_values": model.vocabulary * keys * model.head_dim, "value_gates": keys * model.gate_inputs}


def _opened(path: Path) -> BinaryIO:
    """To be read; a pipe of that name makes nobody wait."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))


def _check_owner(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file")
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError("others may write to it")


def _read_head(stream: Any) -> tuple[dict[str, Any], bytes, int]:
    """The header, the structures, and where the rest begins."""
    size = len(_MAGIC) + 64 + 8
    head = stream.read(size)
    length = int.from_bytes(head[-8:], "little")
    if len(head) != size or not head.startswith(_MAGIC) or length > _MAX_HEADER:
        raise ValueError("it is none, or of another version")
    text = stream.read(length)
    header = json.loads(text)
    structures = stream.read(header["structures"])
    if _digest(text, structures) != head[len(_MAGIC) : -8]:
        raise ValueError("it is damaged")
    start = _padded(size + length + len(structures), _PAGE)
    if os.fstat(stream.fileno()).st_size != start + header["bytes"]:
        raise ValueError("it is not whole")
    return header, structures, start


def _digest(text: bytes, structures: bytes) -> bytes:
    return hashlib.sha256(text + structures).hexdigest().encode()


def _padded(size: int, to: int) -> int:
    return -(-size // to) * to
