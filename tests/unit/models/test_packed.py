"""Packed layers: each against its own weights in float32, on shapes that kernels like and on others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bloomery.core.errors import BloomeryError, ConfigError, DeviceError
from bloomery.models.packed import (
    CPU_FORMATS,
    ROWS_BY_DEQUANTIZING,
    Float16Linear,
    HalfLinear,
    Int4Linear,
    Int8Linear,
    PackedLinear,
    checked,
    packed,
)
from bloomery.models.quantize import quantize

SHAPES = [(96, 64), (288, 288), (50, 96), (64, 768)]
# Of the layer's weights: float16 keeps 11 bits, 8-bit codes err by 1/127 of the largest / sqrt(12), 4-bit ones by 1/7.
WEIGHT_ERROR = {"float32": 0.0, "float16": 4e-4, "int8": 0.012, "int8-weight-only": 0.012, "int4": 0.12}
# Of its results beside those weights in float32: order of sums; bfloat16's 8 bits; activations rounded to 7 bits.
RESULT_ERROR = {"float32": 1e-5, "float16": 1e-5, "int8": 0.03, "int8-weight-only": 0.005, "int4": 0.005}


def example(outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(outputs)
    return torch.randn(outputs, inputs, generator=generator) * 0.05, torch.randn(outputs, generator=generator)


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", CPU_FORMATS)
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_results_are_those_of_its_weights(kind: str, outputs: int, inputs: int, with_bias: bool):
    weight, some = example(outputs, inputs)
    bias = some if with_bias else None
    layer = packed(weight, bias, kind)
    assert error(layer.weight, weight) <= WEIGHT_ERROR[kind]
    checked(layer, layer.weight, bias)
    for shape in ((inputs,), (1, inputs), (2, 3, inputs), (ROWS_BY_DEQUANTIZING + 8, inputs)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            got = layer(x)
        assert got.shape == (*shape[:-1], outputs) and got.dtype == torch.float32
        assert error(got, F.linear(x, layer.weight, bias)) <= RESULT_ERROR[kind]
    assert layer.nbytes <= {"float32": 4.0, "float16": 2.0, "int4": 1.6}.get(kind, 1.25) * weight.numel()
    assert kind in repr(layer)


@pytest.mark.parametrize("kind", ["int8", "int8-weight-only", "int4"])
def test_a_row_is_not_changed_by_its_neighbours(kind: str):
    layer = packed(*example(96, 64), kind)
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(2))
    alone = torch.cat([layer(row[None]) for row in x])
    x_beside = torch.cat([x, 1000 * torch.randn(4, 64)])
    assert torch.equal(layer(x_beside)[:8], alone)


def test_rows_of_zeros_and_of_huge_numbers():
    layer = packed(*example(32, 64), "int8")
    x = torch.stack([torch.zeros(64), torch.full((64,), 1e30), torch.full((64,), 1e-30)])
    assert bool(torch.isfinite(layer(x)).all())
    assert torch.equal(layer(x)[0], layer.bias)


@pytest.mark.parametrize("kind", ["int8", "int8-weight-only", "int4"])
def test_integers_that_a_file_gave_are_taken_as_they_are(kind: str):
    weight, _ = example(64, 96)
    known = quantize(weight, 4, 32) if kind == "int4" else quantize(weight, 8)
    layer = packed(torch.zeros_like(weight), None, kind, known=known)
    assert torch.allclose(layer.weight, known.dequantized(), rtol=1e-6, atol=0)


def test_groups_of_four_bit_weights():
    weight, _ = example(48, 256)
    errors = []
    for size in (32, 64, 128):
        layer = packed(weight, None, "int4", group_size=size)
        assert isinstance(layer, Int4Linear) and layer.group_size == size
        checked(layer, layer.weight, None)
        errors.append(error(layer.weight, weight))
    assert errors == sorted(errors)  # smaller groups err less


class Broken(Float16Linear):
    """What an operator does that reads memory that it does not own."""

    def __init__(self, *arguments: Any, wrong: str) -> None:
        super().__init__(*arguments)
        self.wrong = wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        if self.wrong == "nan":
            return out * torch.nan
        if self.wrong == "rows" and x.numel() // self.in_features > 1:
            return torch.zeros_like(out)
        return out[..., :-1] if self.wrong == "shape" else out * 1.01 if self.wrong == "scale" else out


@pytest.mark.parametrize("wrong", ["nan", "rows", "shape", "scale"])
def test_a_broken_operator_is_caught(wrong: str):
    weight, bias = example(32, 64)
    layer = Broken(weight, bias, wrong=wrong)
    with pytest.raises(DeviceError, match=r"float16: (the operator is off|shape)"):
        checked(layer, layer.weight, bias)
    checked(Broken(weight, bias, wrong=""), layer.weight, bias)


def test_inputs_that_a_kernel_reads_past_the_end_of_never_reach_it():
    """PyTorch's int8 kernel takes inputs 32 at a time: with 172 it read foreign memory, and crashed."""
    with pytest.raises(DeviceError, match="172"):
        packed(example(64, 172)[0], None, "int8-weight-only")


def test_mistakes():
    weight, _ = example(32, 64)
    with pytest.raises(ConfigError, match="cannot be packed"):
        packed(weight, None, "int2")
    with pytest.raises(ConfigError, match="groups"):
        packed(weight[:, :60], None, "int4")
    with pytest.raises(DeviceError, match="too large"):
        packed(weight * 1e7, None, "float16")
    with pytest.raises(BloomeryError, match="cuda"):
        HalfLinear(weight, None, torch.bfloat16)
    with pytest.raises(ConfigError, match="cannot be trained"):
        packed(weight, None, "int8").train()
    assert isinstance(packed(weight, None, "int8").eval(), Int8Linear)
    with pytest.raises(TypeError, match="abstract"):
        PackedLinear(weight, None)  # type: ignore[abstract]
