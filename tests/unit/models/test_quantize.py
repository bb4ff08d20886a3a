"""Rounding to integers: against the plain formula, and against the error that it states to be least."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.quantize import QuantizedWeight, divides, quantize


def weights(rows: int = 24, columns: int = 128) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)) * 0.05


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, 64), (4, None), (8, None), (8, 32)])
def test_codes_are_the_nearest_and_within_their_bits(bits: int, group: int | None):
    weight = weights()
    made = quantize(weight, bits, group)
    assert made.codes.dtype == torch.int8 and made.group_size == (group or 128)
    assert int(made.codes.min()) >= -(2 ** (bits - 1)) and int(made.codes.max()) <= 2 ** (bits - 1) - 1
    assert torch.equal(made.scale, made.scale.bfloat16().float())  # what a file or an operator of that type keeps
    # The formula, in NumPy: w is rounded to the nearest multiple of its group's scale, and clipped.
    scale = np.repeat(made.scale.numpy(), made.group_size, axis=1)
    codes = np.clip(np.round(weight.numpy() / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert np.array_equal(codes, made.codes.numpy())
    assert np.allclose(codes * scale, made.dequantized().numpy())


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, None)])
def test_clipping_errs_less_than_fitting_the_largest(bits: int, group: int | None):
    weight = weights()
    made = quantize(weight, bits, group)
    high = 2 ** (bits - 1) - 1
    grouped = weight.unflatten(1, (made.scale.size(1), -1))
    scale = (grouped.abs().amax(-1, keepdim=True) / high).bfloat16().float()
    plain = ((grouped / scale).round().clamp(-high - 1, high) * scale).flatten(1)
    wrong = (made.dequantized() - weight).square().unflatten(1, (made.scale.size(1), -1)).sum(-1)
    assert bool((wrong <= (plain - weight).square().unflatten(1, (made.scale.size(1), -1)).sum(-1) + 1e-9).all())
    if bits == 4:  # with 16 levels clipping pays in most groups
        assert float((made.dequantized() - weight).norm()) < 0.98 * float((plain - weight).norm())


def test_an_outlier_costs_its_own_group_only():
    weight = weights()
    outlier = weight.clone()
    outlier[0, 0] = 10.0
    first, second = quantize(weight, 4, 32), quantize(outlier, 4, 32)
    assert torch.equal(first.codes[:, 32:], second.codes[:, 32:]) and torch.equal(first.codes[1:], second.codes[1:])


def test_zeros_stay_zeros_and_large_matrices_are_taken_in_parts():
    zero = quantize(torch.zeros(3, 64), 4, 32)
    assert torch.equal(zero.dequantized(), torch.zeros(3, 64))
    tall = weights(5000, 64)
    whole, part = quantize(tall, 8), quantize(tall[4000:], 8)
    assert torch.equal(whole.codes[4000:], part.codes) and torch.equal(whole.scale[4000:], part.scale)


def test_mistakes():
    with pytest.raises(ConfigError, match="4 or 8 bits"):
        quantize(weights(), 3)
    with pytest.raises(ConfigError, match="groups of 48"):
        quantize(weights(), 4, 48)
    assert divides(weights(), None) and divides(weights(), 64) and not divides(weights(), 48)
    assert QuantizedWeight(torch.zeros(2, 8, dtype=torch.int8), torch.ones(2, 2), 4).group_size == 4
