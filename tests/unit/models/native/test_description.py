"""Descriptions: each matrix multiplies as its codes say, at odd shapes; what cannot be described is refused."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bloomery.core.errors import DeviceError
from bloomery.models import Decoder, ModelConfig
from bloomery.models.attention import use_backend
from bloomery.models.native import description as module
from bloomery.models.native.description import Description, check, fit, layer_groups, matrix_of
from bloomery.models.native.matrix import Matrix
from bloomery.models.packed import CPU_FORMATS, Stored
from bloomery.models.packing import pack
from bloomery.models.quantize import quantize

SIZES: dict[str, Any] = {
    "vocab_size": 70,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}
EXPERTS = {"model_type": "mixtral", "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}
HALVES = (torch.float16, torch.bfloat16)
_EXACT = 2e-6  # sums of a few hundred float32 in another order
_INT8 = 6e-5  # activations rounded to 32,767 steps, at random: 1 / 113,000 of the largest, of which six; and sums
_GROUPS = {"int8 by 64": 64, "int8 by 10": 10, "int8 by 2": 2}
_INT4 = 0.02  # to 127 steps in groups of 32, whose largest is three deviations: 1 / 84 over sqrt(12)
fuzzed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def decoder(**changes: Any) -> Decoder:
    torch.manual_seed(0)
    made = Decoder(ModelConfig(**{**SIZES, **changes})).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter += torch.randn_like(parameter) * 0.1
    return made


def stored(kind: str, outputs: int, inputs: int, *, biased: bool, seed: int) -> Stored:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    bias = torch.randn(outputs, generator=generator) if biased else None
    if kind in ("float32", "float16"):
        codes = weight if kind == "float32" else weight.half()
        return Stored(codes, None, bias, 32 if kind == "float32" else 16)
    rounded = quantize(weight, 4, 32) if kind == "int4" else quantize(weight, 8, _GROUPS.get(kind))
    return Stored(rounded.codes, rounded.scale, bias, rounded.bits)


def dequantised(one: Stored) -> torch.Tensor:
    codes = one.codes.double()
    return (
        codes if one.scale is None else (codes.unflatten(1, (one.scale.size(1), -1)) * one.scale[..., None]).flatten(1)
    )


@fuzzed
@given(
    kind=st.sampled_from(["float32", "float16", "int8", *_GROUPS, "int4"]),
    outputs=st.integers(1, 70),
    inputs=st.integers(1, 150),
    rows=st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 16, 17, 23]),
    biased=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products_are_those_of_what_the_codes_stand_for(
    calls: ctypes.CDLL, kind: str, outputs: int, inputs: int, rows: int, biased: bool, seed: int
):
    size = 32 if kind == "int4" else _GROUPS.get(kind, 1)
    inputs = max(1, inputs // size) * size
    one = stored(kind, outputs, inputs, biased=biased, seed=seed)
    x = torch.randn(rows, inputs, generator=torch.Generator().manual_seed(seed)) * torch.logspace(-3, 3, rows)[:, None]
    matrix = Matrix(calls, *one)
    got = matrix.multiply(x)
    product = x.double() @ dequantised(one).T
    expected = product if one.bias is None else product + one.bias
    bound = {"int8": _INT8, "int4": _INT4}.get(kind[:4], _EXACT)
    # Errors add up as the terms do, whatever they sum to.
    scale = x.double().abs().amax(1, keepdim=True) * dequantised(one).norm(dim=1) + expected.abs()
    assert ((got - expected).abs() <= bound * scale).all()
    for row in range(rows):
        assert torch.equal(matrix.multiply(x[row : row + 1])[0], got[row])


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int8 by 64", "int4"])
def test_zeros_give_the_bias_and_no_number_stays_none(calls: ctypes.CDLL, kind: str):
    one = stored(kind, 40, 64, biased=True, seed=0)
    x = torch.zeros(4, 64)
    x[1, 5], x[2, 40] = float("nan"), float("inf")
    got = Matrix(calls, *one).multiply(x)
    assert torch.equal(got[0], one.bias) and torch.equal(got[3], one.bias)
    assert not got[1].isfinite().any() and not got[2].isfinite().any()


@pytest.mark.parametrize(("inputs", "groups"), [(40_000, 1), (4_096, 8), (512, 1)])
@pytest.mark.parametrize("rows", [1, 2, 6])
def test_many_inputs_do_not_overflow_int8(calls: ctypes.CDLL, inputs: int, groups: int, rows: int):
    """The largest codes on both sides, in as large groups as there may be."""
    codes = torch.full((16, inputs), -128, dtype=torch.int8)
    matrix = Matrix(calls, *Stored(codes, torch.ones(16, groups), None, 8))
    torch.testing.assert_close(matrix.multiply(torch.ones(rows, inputs)), torch.full((rows, 16), -128.0 * inputs))


@pytest.mark.parametrize("kind", ["plain", *CPU_FORMATS])
def test_matrices_hold_what_the_packed_layers_hold(calls: ctypes.CDLL, kind: str):
    model = decoder()
    if kind != "plain":
        pack(model, kind)
    description = Description(calls, model)
    assert len(description.matrices) == 2 * 4 + 1
    shapes = [(128, 64), (64, 64), (192, 64), (64, 96)] * 2 + [(70, 64)]
    assert [(one.outputs, one.inputs) for one in description.matrices] == shapes
    x = torch.randn(3, 64)
    first = matrix_of(next(layer_groups(model)))
    torch.testing.assert_close(
        description.matrices[0].multiply(x), (x.double() @ dequantised(first).T).float(), rtol=0.02, atol=0.2
    )
    assert description.nbytes > sum(one.outputs * one.inputs for one in description.matrices) // 2


@pytest.mark.parametrize("half", HALVES)
def test_weights_that_16_bits_hold_lie_in_them_and_give_the_same_bits(
    calls: ctypes.CDLL, half: torch.dtype, monkeypatch: pytest.MonkeyPatch
):
    model = decoder()
    for parameter in model.parameters():
        parameter.copy_(parameter.to(half))
        if half == torch.bfloat16:
            parameter.view(-1)[0] = 2.0**-30  # which is too small for float16: it comes first
    model.model.layers[1].mlp.down_proj.weight[-1, -1] += 1e-6  # type: ignore[union-attr]
    narrow = Description(calls, model)
    name = str(half).removeprefix("torch.")
    assert [one.format for one in narrow.matrices] == [name] * 7 + ["float32", name]
    monkeypatch.setattr(module, "fit", lambda weights, half: False)
    wide = Description(calls, model)
    assert wide.formats == ("float32",) and narrow.nbytes < 0.6 * wide.nbytes
    for one, other in zip(narrow.matrices, wide.matrices, strict=True):
        assert torch.equal(one.codes().float(), other.codes())
        for rows in (1, 4, 13):
            x = torch.randn(rows, one.inputs)
            assert torch.equal(one.multiply(x), other.multiply(x))
            assert torch.equal(one.multiply(x, 2), other.multiply(x))


@pytest.mark.parametrize(
    ("half", "odd"),
    [
        *((torch.float16, odd) for odd in (1e-9, 65520.0, 1 / 3, math.inf, math.nan)),
        *((torch.bfloat16, odd) for odd in (65520.0, 257.0, 1 / 3, 3.4e38, math.inf, math.nan)),
    ],
)
def test_one_number_that_16_bits_do_not_hold_is_seen(half: torch.dtype, odd: float):
    weights = [torch.zeros(2000, 64), torch.full((3, 64), -65280.0)]  # some thousand are looked at together
    assert fit(weights, half)
    weights[0][-1, -1] = odd
    assert fit(weights, half) is (odd == math.inf)
    assert not fit([torch.full((1, 8), 0.1)], half)


@pytest.mark.parametrize("rows", [1, 2, 6, 7, 20])
def test_every_bfloat16_is_widened_exactly(calls: ctypes.CDLL, rows: int):
    """Subnormal and huge ones among them, each by itself in a row, so that sums round nothing."""
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(torch.bfloat16)
    codes = every[every.isfinite()][:, None]
    matrix = Matrix(calls, codes, None, None, 16, torch.bfloat16)
    assert torch.equal(matrix.codes(), codes) and matrix.format == "bfloat16"
    x = torch.linspace(0.5, 1.0, rows)[:, None]
    assert torch.equal(matrix.multiply(x), x * codes.float().T)


def test_what_it_does_not_know_is_refused():
    with pytest.raises(DeviceError, match="does not know a MixtureOfExperts"):
        check(decoder(**EXPERTS))


@pytest.mark.parametrize("place", ["model", "model.layers.1", "model.layers.1.self_attn"])
def test_parts_that_it_never_heard_of_are_refused(place: str):
    model = decoder(model_type="bloomery", smear=True)
    check(model)
    model.get_submodule(place).add_module("canon", nn.Linear(4, 4))
    with pytest.raises(DeviceError, match="does not know the part canon"):
        check(model)


def test_another_attention_or_layer_is_refused(calls: ctypes.CDLL):
    model = decoder()
    use_backend(model, "flex_eager")
    with pytest.raises(DeviceError, match="this attention"):
        check(model)

    class Other(nn.Linear):
        pass

    with pytest.raises(DeviceError, match="does not know Other"):
        matrix_of([Other(4, 4)])
    with pytest.raises(DeviceError, match="in float32"):
        Description(calls, decoder().bfloat16())


def test_scales_that_it_cannot_hold_are_refused(calls: ctypes.CDLL):
    codes = torch.zeros(16, 64, dtype=torch.int8)
    wide = torch.zeros(16, 1030, dtype=torch.int8)
    for some, groups in ((codes, 64), (wide, 2), (wide, 206), (wide[:, :30], 2)):  # of 1, 515, 5, and 15 inputs
        with pytest.raises(DeviceError, match="no 8-bit weights in groups of"):
            Matrix(calls, *Stored(some, torch.ones(16, groups), None, 8))
    with pytest.raises(DeviceError, match="groups of 32"):
        Matrix(calls, *Stored(codes, torch.full((16, 2), 1.001), None, 4))
    with pytest.raises(DeviceError, match="groups of 32"):
        Matrix(calls, *Stored(codes, torch.ones(16, 4), None, 4))
