"""Sessions: the logits of a decoder's native steps, to the last bit, from an image alone."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import DataError, DeviceError, RequestError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.native import session as module
from bloomery.models.native.image import Image
from bloomery.models.native.library import Found, Sums
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.native.session import Session
from bloomery.models.packing import pack
from bloomery.models.paged import PagedMemory, Rows

KEY = "k" * 64
BIASED = {"attention_bias": True, "mlp_bias": True}
SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {"num_key_value_heads": 2},
    "untied": {"tie_word_embeddings": False},
    "gpt2": {"model_type": "gpt2", "hidden_act": "gelu_new", **BIASED},
    "bloom": {"model_type": "bloom", "hidden_act": "gelu_new", "intermediate_size": 256, **BIASED},
    "gpt_neox": {"model_type": "gpt_neox", "hidden_act": "gelu", **BIASED},
    "gemma2": {"model_type": "gemma2", "hidden_act": "gelu_pytorch_tanh", "sliding_window": 5},
    "qwen2": {"model_type": "qwen2"},
    "own": {"model_type": "bloomery", "value_embedding_layers": (1,), "bigram_vocab_size": 37, "smear": True},
    "mixes": {"model_type": "bloomery", "x0_lambdas": True, "resid_lambdas": True, "final_logit_softcapping": 3.0},
}


def decoder(**changes: Any) -> Decoder:
    sizes: dict[str, Any] = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    more = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16, "max_position_embeddings": 64}
    torch.manual_seed(0)
    model = Decoder(ModelConfig(**{**sizes, **more, **changes})).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += torch.randn_like(parameter) * 0.15
    return model


def check_equal(model: Decoder, path: Path, cache: torch.dtype = torch.float32, length: int = 5) -> None:
    """A prompt, and then tokens one by one, beside the decoder's own."""
    native = NativeDecoder(model, threads=1)
    native.imaged(64, cache).write(path, KEY)
    memory, session = PagedMemory(model.config, 64, cache), Session(Image(path, KEY), 64)
    prompt = [(3 + 7 * at) % 50 for at in range(length)]
    rows = Rows(0, len(prompt), [(0, len(prompt))])
    expected = native.prefill(memory, rows, prompt, 1)
    row = session.prefill(prompt)
    assert torch.equal(torch.from_numpy(row.logits), expected[0])
    for at in range(length, length + 7):
        token = row.best
        assert token == int(row.logits.argmax())
        sums = Sums(1)
        expected = native.step(memory, [Rows(at, 1, [(0, at + 1)])], [[token]], sums)
        row = session.step(token)
        assert torch.equal(torch.from_numpy(row.logits), expected[0]) and row.log_of_sum == sums.logs[0]
        # A float32 has 24 bits; log-probabilities are of size ten.
        assert row.of(token) == pytest.approx(float(expected[0].double().log_softmax(0)[token]), abs=2e-6)
    assert session.length == length + 7


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_the_decoders(calls: ctypes.CDLL, tmp_path: Path, shape: str):
    check_equal(decoder(**SHAPES[shape]), tmp_path / "image")


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int4"])
def test_of_packed_weights_too(calls: ctypes.CDLL, tmp_path: Path, kind: str):
    model = decoder()
    pack(model, kind)
    check_equal(model, tmp_path / "image", torch.float32 if kind == "float32" else torch.float16)


@pytest.mark.parametrize("part", [1, 7, 16, 512])
@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_long_prompts_in_any_parts(
    calls: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, kind: str
):
    """Of more rows than attention reads at once, and of more than one stretch of a window."""
    monkeypatch.setattr(module, "_PART", part)
    model = decoder(**SHAPES["gemma2"])
    pack(model, kind)
    check_equal(model, tmp_path / "image", torch.float32 if kind == "float32" else torch.float16, length=45)


def test_without_room_or_tokens(calls: ctypes.CDLL, tmp_path: Path):
    model = decoder()
    NativeDecoder(model, threads=1).imaged(32, torch.float32).write(tmp_path / "image", KEY)
    image = Image(tmp_path / "image", KEY)
    with pytest.raises(RequestError, match="of the image"):
        Session(image, 33)
    session = Session(image, 4)
    for ids in ([], [50], [-1], [1, 50]):
        with pytest.raises(RequestError, match="token id"):
            session.prefill(ids)
    session.prefill([1, 2, 3])
    session.step(1)
    with pytest.raises(RequestError, match="room"):
        session.step(1)


def test_no_numbers_are_an_error(calls: ctypes.CDLL, tmp_path: Path):
    model = decoder()
    model.model.norm.weight.fill_(float("nan"))  # type: ignore[union-attr]
    NativeDecoder(model, threads=1).imaged(32, torch.float32).write(tmp_path / "image", KEY)
    with pytest.raises(DataError, match="not a number"):
        Session(Image(tmp_path / "image", KEY), 8).prefill([1])


def test_without_a_library(calls: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = decoder()
    NativeDecoder(model, threads=1).imaged(32, torch.float32).write(tmp_path / "image", KEY)
    monkeypatch.setattr(module, "library", lambda: Found(None, "not built"))
    with pytest.raises(DeviceError, match="not built"):
        Session(Image(tmp_path / "image", KEY), 8)
