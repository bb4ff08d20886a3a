"""Native layers: PyTorch's own product of what their weights stand for; no second copy under native steps."""

from __future__ import annotations

import copy
import ctypes
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from bloomery.core.errors import DeviceError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.native import linear as module
from bloomery.models.native.library import Found
from bloomery.models.native.linear import NativeLinear, int8_group, is_faster, natively_packed
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.packed import Float16Linear, Stored, checked, packed
from bloomery.models.packing import make_layer, pack, packing_of
from bloomery.models.quantize import quantize

KINDS = ("float32", "float16", "int8", "int4")


def decoder() -> Decoder:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    config = ModelConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
    model = Decoder(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += torch.randn_like(parameter) * 0.1
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_multiplies_as_its_weight_says(calls: ctypes.CDLL, kind: str):
    weight, bias = torch.randn(70, 96), torch.randn(70)
    layer = NativeLinear(weight, bias, kind)
    rounding = {"float32": 0.0, "float16": 1e-3, "int8": 0.02, "int4": 0.15}[kind]  # half a step of the largest weights
    assert (layer.weight - weight).norm() <= rounding * weight.norm()
    outputs = 96 if kind == "float16" else 80  # filled up to 32, or to 16
    assert layer.nbytes <= {"float32": 4, "float16": 2, "int8": 1.1, "int4": 0.6}[kind] * outputs * 96
    x = torch.randn(2, 3, 96)
    expected = F.linear(x, layer.weight, bias)
    assert (layer(x) - expected).norm() <= layer.tolerance(x) * expected.norm()
    assert torch.equal(layer(x[0, 0]), layer(x)[0, 0])
    checked(layer, layer.weight, bias)


PRODUCTS = """
import torch
from bloomery.models.native.library import library
from bloomery.models.native.linear import NativeLinear
from bloomery.models.quantize import quantize
torch.manual_seed(0)
weight = torch.randn(150, 96)
print(library().text)
for kind, known in (("int8", quantize(weight, 8)), ("int8", quantize(weight, 8, 32)), ("int4", None)):
    layer = NativeLinear(weight, None, kind, known)
    for rows in range(1, 10):
        print(layer(torch.randn(rows, 96)).flatten().view(torch.int32).tolist())
"""


def test_sums_of_whole_numbers_are_the_same_with_and_without_vnni(calls: ctypes.CDLL):
    """They are exact, so both sets agree to the last bit; where the processor has but one, it is asked twice."""
    found = []
    for environment in ({"BLOOMERY_NATIVE_KERNELS": "AVX2"}, {}):
        command = [sys.executable, "-c", PRODUCTS]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=True)
        found.append(done.stdout.splitlines()[1:])
    assert len(found[0]) == 27 and found[0] == found[1]


@pytest.mark.parametrize(
    ("inputs", "size"), [(576, 64), (768, 64), (288, 96), (144, 48), (160, 32), (172, None), (31, None)]
)
def test_int8_has_groups_where_they_divide_a_row(calls: ctypes.CDLL, inputs: int, size: int | None):
    weight, bias = torch.randn(40, inputs, generator=torch.Generator().manual_seed(inputs)), torch.randn(40)
    layer = NativeLinear(weight, bias, "int8")
    expected = quantize(weight, 8, size)
    stored = layer.stored()
    assert stored.scale is not None and torch.equal(stored.scale, expected.scale) and int8_group(inputs) == size
    assert torch.equal(layer.weight, expected.dequantized())
    x = torch.randn(4, inputs)
    product = (x.double() @ expected.dequantized().double().T + bias).float()
    assert (layer(x) - product).norm() <= layer.tolerance(x) * product.norm()


def test_groups_that_only_native_code_has_give_way_to_float32_without_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "library", lambda: Found(None, "it was not built"))
    known = quantize(torch.randn(32, 64), 8, 32)
    for kind in ("int8", "int8-weight-only"):
        notes: list[str] = []
        layer = make_layer(known.outline, None, kind, known=known, notes=notes, make=natively_packed)
        assert "one scale for each output, not for 32 inputs" in notes[0] and kind in notes[0]
        assert torch.allclose(layer.weight, known.dequantized())
    assert make_layer(known.dequantized(), None, "int8", make=natively_packed).format == "int8"  # rounded by outputs


@pytest.mark.parametrize("size", [None, 16, 64])
def test_known_integers_are_kept(calls: ctypes.CDLL, size: int | None):
    known = quantize(torch.randn(32, 64), 8, size)
    stored = NativeLinear(known.dequantized(), None, "int8", known).stored()
    assert isinstance(stored, Stored) and torch.equal(stored.codes, known.codes)
    assert stored.scale is not None and torch.equal(stored.scale, known.scale)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_read_the_layers_own_copy(calls: ctypes.CDLL, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "is_faster", lambda kind: True)
    model = decoder()
    pack(model, kind, make=natively_packed)
    layers = {id(one.matrix) for one in model.modules() if isinstance(one, NativeLinear)}
    description = NativeDecoder(model).description
    assert layers == {id(one) for one in description.matrices} and len(layers) == 2 * 4 + 1
    assert NativeDecoder(copy.deepcopy(model)).description.matrices[0] is description.matrices[0]
    report = packing_of(model)
    assert report is not None and report.matrices == 9 and not report.fallbacks


def test_results_are_those_of_pytorchs_layers(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "is_faster", lambda kind: True)
    ids = torch.arange(20)[None]
    for kind, bound in (("float32", 1e-5), ("float16", 1e-5), ("int8", 0.05)):  # PyTorch rounds inputs to 7 bits there
        ours, theirs = decoder(), decoder()
        pack(ours, kind, make=natively_packed)
        pack(theirs, kind)
        got, expected = ours(ids), theirs(ids)
        assert (got - expected).norm() <= bound * expected.norm()


def test_what_native_memory_cannot_hold_is_pytorchs(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "is_faster", lambda kind: True)
    weight = torch.randn(16, 64)
    assert isinstance(natively_packed(weight, None, "float16"), NativeLinear)
    assert natively_packed(weight, None, "int4", group_size=16).format == "int4"  # groups of 32 only
    assert not isinstance(natively_packed(weight, None, "int4", group_size=16), NativeLinear)
    with pytest.raises(DeviceError, match="too large for float16"):
        NativeLinear(weight * 1e6, None, "float16")
    monkeypatch.setattr(module, "is_faster", lambda kind: False)
    assert isinstance(natively_packed(weight, None, "float16"), Float16Linear)
    monkeypatch.setattr(module, "library", lambda: Found(None, "it was not built"))
    assert isinstance(natively_packed(weight, None, "float16"), Float16Linear)
    with pytest.raises(DeviceError, match="it was not built"):
        NativeLinear(weight, None, "float16")


def test_speed_decides_once(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    is_faster.cache_clear()
    assert is_faster("float16") in (True, False)
    monkeypatch.setattr(module, "packed", lambda *given, **more: pytest.fail("measured again"))
    is_faster("float16")
    is_faster.cache_clear()

    def gone(*given: object, **more: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(module, "packed", gone)
    assert is_faster("float16")
    is_faster.cache_clear()
    assert packed(torch.ones(4, 4), None, "float32").format == "float32"
