"""Reading GGUF: what the library reads and dequantises, and one clear line for a file that lies."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from bloomery.core.errors import BloomeryError, ConfigError, DataError, MissingExtraError
from bloomery.engine.finding import is_gguf
from bloomery.engine.gguf_file import export_gguf
from bloomery.engine.gguf_reader import StoredTensor, bits_a_weight, read_gguf

KINDS = [kind for kind in gguf.quants._type_traits if kind.name != "BF16"]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_gguf(tiny_folder, tmp_path_factory.mktemp("gguf") / "model.gguf", dtype="float16")


def test_the_same_as_ggmls_own_reader(file: Path):
    contents, reader = read_gguf(file), gguf.GGUFReader(file)
    theirs = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert contents.values.keys() == theirs.keys() and len(theirs) > 20
    for key, value in contents.values.items():
        value = value.tolist() if isinstance(value, np.ndarray) else value
        assert value == theirs[key] or np.float32(value) == np.float32(theirs[key]), key
    assert contents.number("qwen3.attention.layer_norm_rms_epsilon") == 1e-6  # not what float32 makes of it
    assert list(contents.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        ours = contents.tensors[tensor.name]
        assert ours.shape == tuple(reversed(tensor.shape.tolist())) and ours.kind == tensor.tensor_type.name
        assert np.array_equal(ours.read(torch.float32).numpy(), np.asarray(tensor.data, np.float32))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_type_that_the_library_dequantises(kind: Any):
    """Blocks of any bytes, in several rows and dimensions."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = np.random.default_rng(0).integers(0, 256, (2, 3, 2 * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = torch.from_numpy(gguf.quants.dequantize(data, kind))
    stored = StoredTensor(name="t", shape=(2, 3, 2 * block), kind=kind.name, data=data.reshape(-1))
    assert torch.equal(stored.read(torch.float32).nan_to_num(7.0), expected.nan_to_num(7.0))
    assert bits_a_weight([stored]) == pytest.approx(8 * size / block)


def test_in_steps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bloomery.engine.gguf_reader._STEP", 70)
    numbers = np.random.default_rng(0).standard_normal((7, 32), dtype=np.float32)
    data = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType.Q8_0)
    stored = StoredTensor(name="t", shape=(7, 32), kind="Q8_0", data=data.reshape(-1))
    expected = torch.from_numpy(gguf.quants.dequantize(data, gguf.GGMLQuantizationType.Q8_0))
    assert torch.equal(stored.read(torch.float32), expected)
    assert torch.equal(stored.read(torch.bfloat16), expected.bfloat16())


def test_numbers_that_do_not_fit():
    data = np.array([[1e6, 1.0]], np.float32).view(np.uint8).reshape(-1)
    stored = StoredTensor(name="t", shape=(1, 2), kind="F32", data=data)
    with pytest.raises(ConfigError, match="float16 does not hold"):
        stored.read(torch.float16)
    assert stored.read(torch.bfloat16).isfinite().all()
    odd = StoredTensor(name="t", shape=(1, 8), kind="I8", data=data)
    with pytest.raises(ConfigError, match="type I8"):
        odd.read(torch.float32)


def _header(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _key(name: bytes, kind: int, value: bytes) -> bytes:
    return _text(name) + struct.pack("<I", kind) + value


def _tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0, name: bytes = b"t") -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


HUGE = 1 << 60
LIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "cannot be read"),
    "other": (b"PK\3\4" + bytes(100), "no GGUF file"),
    "short": (b"GGUF\3\0", "cut off"),
    "version": (_header(version=1), "version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "keys": (_header(keys=HUGE), "says that it has"),
    "tensors": (_header(tensors=HUGE), "says that it has"),
    "text": (_header(keys=1) + _key(b"a", 8, struct.pack("<Q", HUGE)), "text of"),
    "array of bytes": (_header(keys=1) + _key(b"a", 9, struct.pack("<IQ", 0, HUGE)), "more than there are"),
    "array of texts": (_header(keys=1) + _key(b"a", 9, struct.pack("<IQ", 8, HUGE)), "arrays of"),
    "a few texts": (_header(keys=1) + _key(b"a", 9, struct.pack("<IQ", 8, 1 << 20)), "asks for 1,048,576 texts"),
    "nested": (_header(keys=1) + _key(b"a", 9, struct.pack("<IQ", 9, 1)), "names a type 9"),
    "type of value": (_header(keys=1) + _key(b"a", 77, bytes(8)), "names a type 77"),
    "not UTF-8": (_header(keys=1) + _key(b"\xff\xfe", 0, b"\0"), "not UTF-8"),
    "twice": (_header(keys=2) + 2 * _key(b"a", 0, b"\0"), "twice"),
    "parts": (_header(keys=1) + _key(b"split.count", 2, b"\3\0"), "one of 3 parts"),
    "alignment": (_header(keys=1) + _key(b"general.alignment", 4, struct.pack("<I", 3)), "alignment is 3"),
    "dimensions": (_header(1) + _tensor((1,) * 5), "5 dimensions"),
    "a huge shape": (_header(1) + _tensor((HUGE, HUGE)), "has shape"),
    "no size": (_header(1) + _tensor((0,)), "has shape"),
    "half a block": (_header(1) + _tensor((48,), 2) + bytes(1000), "has shape"),
    "type of tensor": (_header(1) + _tensor((4,), 999), "unknown type 999"),
    "offset": (_header(1) + _tensor((4,), 0, HUGE) + bytes(100), "behind its end"),
    "tensors on each other": (
        _header(9) + b"".join(_tensor((64,), name=b"%d" % n) for n in range(9)) + bytes(300),
        "be",
    ),
    "a tensor twice": (_header(2) + 2 * _tensor((4,)) + bytes(100), "twice"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_file_that_lies(case: str, tmp_path: Path):
    data, word = LIES[case]
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(BloomeryError, match=word) as caught:
        read_gguf(tmp_path / "m.gguf")
    assert caught.value.hint and "\n" not in caught.value.one_line()


def test_cut_off_anywhere(file: Path, tmp_path: Path):
    data = file.read_bytes()
    rng = random.Random(0)
    for size in [*range(200), *(rng.randrange(len(data)) for _ in range(100)), len(data) - 1]:
        (tmp_path / "m.gguf").write_bytes(data[:size])
        with pytest.raises(DataError):
            read_gguf(tmp_path / "m.gguf")


def test_values_of_another_kind(file: Path, tmp_path: Path):
    contents = read_gguf(file)
    contents.values.update({"list": np.array([2, 2]), "lists": np.array([2, 3]), "nan": float("nan")})
    asked: list[tuple[Callable[[str], Any], str]] = [
        (contents.number, "general.architecture"),
        (contents.number, "nan"),
        (contents.whole, "missing"),
        (lambda key: contents.flag(key, True), "list"),
        (contents.text, "qwen3.block_count"),
    ]
    for read, key in asked:
        with pytest.raises(DataError, match="should be"):
            read(key)
    assert contents.whole("list") == 2
    with pytest.raises(ConfigError, match="layer to layer"):
        contents.whole("lists")
    with pytest.raises(DataError, match="no file"):
        read_gguf(tmp_path / "none.gguf")


def test_without_the_library(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match="reading GGUF files"):
        read_gguf(file)


def test_what_names_a_file(file: Path, tmp_path: Path):
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "blob").write_bytes(file.read_bytes()[:100])
    assert is_gguf(file) and is_gguf(str(file)) and is_gguf("a/b.gguf") and is_gguf(tmp_path / "blob")
    assert not is_gguf(tmp_path / "folder.gguf") and not is_gguf("org/name") and not is_gguf(3)
