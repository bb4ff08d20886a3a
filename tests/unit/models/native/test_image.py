"""Images: written, opened again, and refused where anything is not as it was."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import DataError, DeviceError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.native.image import Image, source_of
from bloomery.models.native.library import Layer, MatrixFields, weight_bytes
from bloomery.models.native.matrix import Matrix
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.packing import pack
from bloomery.models.rope import RopeScaling

KEY = "a" * 64


def decoder(**changes: Any) -> Decoder:
    sizes: dict[str, Any] = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    more = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}
    torch.manual_seed(0)
    return Decoder(ModelConfig(**{**sizes, **more, **changes})).eval().requires_grad_(False)


@pytest.fixture
def kept(calls: ctypes.CDLL, tmp_path: Path) -> Path:
    model = decoder()  # which is kept by a name alone
    NativeDecoder(model, threads=1).imaged(40, torch.float32).write(tmp_path / "image", KEY)
    return tmp_path / "image"


def test_everything_comes_back_as_it_was(calls: ctypes.CDLL, tmp_path: Path):
    model = decoder()
    native = NativeDecoder(model, threads=1)
    size = native.imaged(40, torch.float16).write(tmp_path / "image", KEY, "from here")
    assert size == (tmp_path / "image").stat().st_size
    assert [one.name for one in tmp_path.iterdir()] == ["image"]
    image = Image(tmp_path / "image", KEY)
    assert (image.facts.positions, image.facts.context_length, image.facts.cache) == (40, 64, "float16")
    for name, _ in type(image.model)._fields_:
        was, now = getattr(native.description.model, name), getattr(image.model, name)
        if isinstance(now, int | float) and name not in ("embedding", "layer", "head", "slopes"):
            assert was == now, name
    held = floats(image.model.embedding, model.model.embed_tokens.weight.numel())
    assert torch.equal(held, model.model.embed_tokens.weight.flatten())
    head = MatrixFields.from_address(image.model.head)
    given = MatrixFields.from_address(native.description.model.head)
    assert raw(head) == raw(given) and head.weights != given.weights
    (cosines, width), _ = image.tables[0]
    assert width == 4 * 8
    table = model.rope(0, 40, 0, torch.device("cpu"))
    assert table is not None and torch.equal(floats(cosines, 40 * 8), table[0][:40].flatten())


def floats(address: int, count: int) -> torch.Tensor:
    return torch.tensor(list((ctypes.c_float * count).from_address(address)))


def raw(matrix: MatrixFields) -> bytes:
    return ctypes.string_at(matrix.weights, weight_bytes(matrix))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "int8", "int8 in groups", "int4"])
@pytest.mark.parametrize("outputs", [5, 16, 40])
def test_sizes_are_those_of_the_library(calls: ctypes.CDLL, kind: str, outputs: int):
    half = torch.bfloat16 if kind == "bfloat16" else torch.float16
    bits = {"float32": 32, "float16": 16, "bfloat16": 16, "int4": 4}.get(kind, 8)
    codes = torch.ones(outputs, 64, dtype={32: torch.float32, 16: half}.get(bits, torch.int8))
    groups = {"int8": 1, "int8 in groups": 2, "int4": 2}.get(kind)
    scale = None if groups is None else torch.ones(outputs, groups)
    matrix = Matrix(calls, codes, scale, None, bits, half)
    scales = 0 if scale is None else matrix._scales.nbytes
    assert weight_bytes(matrix._fields) == matrix._weights.nbytes == matrix.nbytes - scales


def test_every_part_of_a_layer_comes_back(calls: ctypes.CDLL, tmp_path: Path):
    model = decoder(model_type="qwen2")
    pack(model, "int8")
    native = NativeDecoder(model, threads=1)
    new = native.imaged(40, torch.float16)
    assert 0 <= new.write(tmp_path / "image", KEY) - new.nbytes <= 2 * 4096 + 1000 * 32
    image = Image(tmp_path / "image", KEY)
    layers = ctypes.cast(image.model.layer, ctypes.POINTER(Layer))
    for number, was in enumerate(native.description.layers):
        now = layers[number]
        for name in ("qkv", "output", "up", "down"):
            ours, theirs = (MatrixFields.from_address(getattr(one, name)) for one in (now, was))
            assert raw(ours) == raw(theirs) and ours.scale_bytes == theirs.scale_bytes
            size = theirs.bytes - weight_bytes(theirs)
            assert ctypes.string_at(ours.scales, size) == ctypes.string_at(theirs.scales, size)
            assert bool(ours.bias) == bool(theirs.bias) == (name == "qkv")
            if ours.bias:
                assert ctypes.string_at(ours.bias, 64) == ctypes.string_at(theirs.bias, 64)
        for name in ("attention_in", "feed_in"):
            assert ctypes.string_at(getattr(now, name).weight, 128) == ctypes.string_at(getattr(was, name).weight, 128)


def test_where_it_comes_from_is_told(calls: ctypes.CDLL, tmp_path: Path):
    model = decoder()
    NativeDecoder(model, threads=1).imaged(8, torch.float32).write(tmp_path / "image", KEY, "from here")
    assert source_of(tmp_path / "image") == "from here"
    with pytest.raises(DataError, match="no image"):
        source_of(tmp_path / "none")


def test_keys_that_sessions_do_not_have_are_refused(calls: ctypes.CDLL):
    model = decoder()
    with pytest.raises(DeviceError, match="int8"):
        NativeDecoder(model, threads=1).imaged(8, torch.int8)


def test_another_key_is_another_model(kept: Path):
    with pytest.raises(DataError, match="another model"):
        Image(kept, "b" * 64)


@pytest.mark.parametrize("place", [0, 20, 90, 120, 400, 1000])
def test_a_changed_byte_before_the_weights_is_seen(kept: Path, place: int):
    data = bytearray(kept.read_bytes())
    data[place] ^= 1
    kept.write_bytes(data)
    with pytest.raises(DataError, match="no image"):
        Image(kept, KEY)


@pytest.mark.parametrize("size", [0, 1, 10, 85, 500, 3000, -1])
def test_a_part_of_a_file_is_none(kept: Path, size: int):
    kept.write_bytes(kept.read_bytes()[:size])
    with pytest.raises(DataError, match="no image"):
        Image(kept, KEY)


def test_what_others_may_write_is_not_read(kept: Path):
    kept.chmod(0o666)
    with pytest.raises(DataError, match="others may write"):
        Image(kept, KEY)
    kept.chmod(0o600)
    assert kept.stat().st_mode & 0o777 == 0o600 and Image(kept, KEY)


def test_folders_pipes_and_nothing_are_no_images(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", tmp_path / "pipe"):
        with pytest.raises(DataError, match="no image"):
            Image(path, KEY)


def test_nothing_is_left_of_one_that_cannot_be_written(
    calls: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(_: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)
    model = decoder()
    with pytest.raises(OSError, match="no space"):
        NativeDecoder(model, threads=1).imaged(40, torch.float32).write(tmp_path / "image", KEY)
    assert not list(tmp_path.iterdir())


def test_rotations_that_depend_on_the_text_are_not_kept(calls: ctypes.CDLL, tmp_path: Path):
    scaling = RopeScaling(rope_type="dynamic", factor=2.0)
    model = decoder(rope_scaling=scaling, max_position_embeddings=16)
    native = NativeDecoder(model, threads=1)
    with pytest.raises(DeviceError, match="how long a text is"):
        native.imaged(40, torch.float32)
