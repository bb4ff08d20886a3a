"""The trial: native steps are taken where they are right and faster, and the reason is kept where they are not."""

from __future__ import annotations

import copy
import ctypes

import pytest
import torch

from bloomery.core.errors import DeviceError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.native import trial as module
from bloomery.models.native.library import Found
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.native.trial import check, measure, measure_prompt, trial_of, try_native
from bloomery.models.packing import pack


def decoder(**changes) -> Decoder:
    sizes = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 64,
    }
    torch.manual_seed(0)
    model = Decoder(ModelConfig(**{**sizes, **changes})).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += torch.randn_like(parameter) * 0.1
    return model


@pytest.mark.parametrize("kind", ["plain", "float16", "int8", "int4"])
def test_what_is_right_passes(calls: ctypes.CDLL, kind: str):
    model = decoder()
    if kind != "plain":
        pack(model, kind)
    assert (
        0 <= check(NativeDecoder(model)) < {"plain": 1e-5, "float16": 1e-4}.get(kind, 0.1)
    )  # keys in float16 may round the other way


def test_it_is_taken_if_it_is_faster_and_tried_once(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    model = decoder()
    monkeypatch.setattr(module, "measure", lambda native: {1: 4.0, 8: 1.0})
    monkeypatch.setattr(module, "measure_prompt", lambda native: 1.5)
    found = trial_of(model)
    assert found.native is not None and found.text.endswith("2.0x PyTorch; prompts 1.5x") and found.prompts
    assert trial_of(model) is found
    assert copy.deepcopy(model) is not model  # what is kept beside a decoder is no part of it


def test_it_is_left_if_it_is_slower(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "measure", lambda native: {1: 0.5, 8: 1.0})
    found = trial_of(decoder())
    assert found.native is None and "slower here (0.71x)" in found.text
    assert try_native(decoder(), timed=False).native is not None


def test_prompts_are_left_if_they_are_slower(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "measure", lambda native: {1: 4.0, 8: 1.0})
    monkeypatch.setattr(module, "measure_prompt", lambda native: 0.5)
    found = try_native(decoder())
    assert found.native is not None and not found.prompts and found.text.endswith("is slower here (0.50x)")
    assert try_native(decoder(), timed=False).prompts


def test_a_wrong_prompt_is_not_taken(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    right = NativeDecoder.prefill
    monkeypatch.setattr(NativeDecoder, "prefill", lambda *given: right(*given).roll(1, 0))
    found = try_native(decoder())
    assert found.native is None and found.text.startswith("PyTorch: the native step is off by")


def test_a_wrong_step_is_not_taken(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    model = decoder()
    native = NativeDecoder(model)
    native.description.model.attention_scale *= 3
    with pytest.raises(DeviceError, match="is off by"):
        check(native)
    right = NativeDecoder.step
    monkeypatch.setattr(NativeDecoder, "step", lambda *given: right(*given) * float("nan"))
    found = try_native(model)
    assert found.native is None and found.text.startswith("PyTorch: the native step is off by nan")


def test_a_wrong_product_is_not_taken(calls: ctypes.CDLL):
    model = decoder()
    native = NativeDecoder(model)
    model.model.layers[0].mlp.down_proj.weight.data.mul_(1.01)  # past the count of writes
    with pytest.raises(DeviceError, match="product in float32 is off"):
        check(native)


def test_what_it_does_not_know_is_pytorchs(calls: ctypes.CDLL):
    found = trial_of(decoder(model_type="mixtral", num_experts=4, num_experts_per_tok=2, norm_topk_prob=True))
    assert found.native is None and "PyTorch: the native step does not know a MixtureOfExperts" in found.text


def test_without_memory_for_a_copy_it_is_pytorchs(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MAX_SHARE", 0.0)
    assert "no memory for a second copy" in trial_of(decoder()).text


def test_without_the_library_it_is_pytorchs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "library", lambda: Found(None, "it was not built"))
    found = trial_of(decoder())
    assert found.native is None and found.text == "PyTorch: it was not built"


def test_both_are_timed(calls: ctypes.CDLL):
    model = decoder()
    assert all(ratio > 0 for ratio in measure(NativeDecoder(model)).values())
    assert measure_prompt(NativeDecoder(model)) > 0


def test_weights_elsewhere_are_left_to_pytorch(calls: ctypes.CDLL):
    found = trial_of(decoder().to("meta"))
    assert found.native is None and "not on the CPU" in found.text
