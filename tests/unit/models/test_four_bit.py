"""Weights in four bits against bitsandbytes: the same codes, scales and numbers; gradients against plain layers."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.models.four_bit import NF4, FourBitLinear, dynamic_table, quantize_int4, quantize_nf4, to_four_bits


def _bitsandbytes() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bitsandbytes.functional
    return bitsandbytes.functional


@pytest.fixture(scope="module")
def weight() -> torch.Tensor:
    return torch.randn(96, 320, generator=torch.Generator().manual_seed(0)) * 0.05


def test_the_table_is_that_of_quantiles():
    """The paper's formula: means of neighbouring quantiles would be exact; what is published are quantiles from an
    offset, 8 below zero and 9 above, which scipy gives."""
    from scipy.stats import norm

    offset = 0.9677083
    below = -norm.ppf(torch.linspace(offset, 0.5, 8).double().numpy())[:-1]
    above = norm.ppf(torch.linspace(offset, 0.5, 9).double().numpy())[:-1]
    expected = sorted([*below, 0.0, *above])
    assert [x / max(expected) for x in expected] == pytest.approx(list(NF4), abs=1e-6)


@pytest.mark.parametrize("double", [False, True])
def test_nf4_is_bitsandbytes(weight: torch.Tensor, double: bool):
    theirs = _bitsandbytes()
    codes, state = theirs.quantize_4bit(weight, quant_type="nf4", compress_statistics=double, blocksize=64)
    ours = quantize_nf4(weight, double=double)
    assert torch.equal(ours.codes, codes.flatten())
    if double:
        # A number in the middle of two levels falls to either, by the last bit of the mean.
        apart = (ours.scale.int() - state.absmax.int()).abs()
        assert int(apart.max()) <= 1 and float(apart.float().mean()) < 0.01
        assert ours.nbytes < quantize_nf4(weight).nbytes
        ours = dataclasses.replace(ours, scale=state.absmax)
    expected = theirs.dequantize_4bit(codes, state)
    torch.testing.assert_close(ours.dequantized(), expected, atol=1e-7, rtol=1e-6)


def test_dynamic_table_is_bitsandbytes():
    expected = _bitsandbytes().create_dynamic_map(signed=True)
    torch.testing.assert_close(dynamic_table(torch.device("cpu")), expected.cpu().float(), atol=1e-7, rtol=1e-6)


def test_odd_sizes_and_zeros():
    weight = torch.zeros(3, 7)
    weight[1, 2] = -2.0
    made = quantize_nf4(weight)
    assert torch.equal(made.dequantized(), weight)
    assert made.nbytes == 11 + 4


def test_error_is_the_formats(weight: torch.Tensor):
    """nf4 errs less on normal numbers than evenly spaced codes of the same blocks without clipping (the paper's claim);
    a step of the table times the block's largest bounds both."""
    error = (quantize_nf4(weight).dequantized() - weight).abs()
    largest = weight.view(96, -1, 64).abs().amax(-1).repeat_interleave(64, 1)
    assert float((error / largest).max()) <= max(b - a for a, b in itertools.pairwise(NF4)) / 2 + 1e-6
    assert float(error.square().mean()) < float(((weight / largest * 7).round() / 7 * largest - weight).square().mean())
    int4 = quantize_int4(weight).dequantized()
    assert float((int4 - weight).abs().max()) < float(weight.abs().max()) / 2
    with pytest.raises(ConfigError, match="do not divide 7"):
        quantize_int4(torch.zeros(2, 7))


@pytest.mark.parametrize("form", ["nf4", "int4"])
def test_forward_and_backward(form: str):
    torch.manual_seed(0)
    linear = nn.Linear(64, 48)
    layer = FourBitLinear.of(linear, form)
    x = torch.randn(5, 64, requires_grad=True)
    out = layer(x)
    out.square().sum().backward()
    other = x.detach().clone().requires_grad_(True)
    expected = F.linear(other, layer.weight, linear.bias.detach())
    expected.square().sum().backward()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(x.grad, other.grad)
    assert not any(p.requires_grad for p in layer.parameters())
    kind = layer.scale.dtype
    assert layer.half().scale.dtype == kind and layer.codes.dtype == torch.uint8
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16


def test_a_model():
    from bloomery.models import Decoder, ModelConfig

    config = ModelConfig(
        model_type="llama", vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=128, head_dim=32, max_position_embeddings=32,
    )  # fmt: skip
    model = Decoder(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1 + (parameter.ndim == 1))
    ids = torch.arange(20)[None]
    before = model(ids)
    plain, packed = to_four_bits(model, "nf4", double=True)
    assert packed < plain / 7
    assert type(model.lm_head) is nn.Linear or model.lm_head is None
    after = model(ids)
    similarity = F.cosine_similarity(before.flatten(), after.flatten(), dim=0)
    assert 0.95 < float(similarity.detach()) < 1
    with pytest.raises(ConfigError, match="unknown format"):
        FourBitLinear.of(nn.Linear(2, 2), "nf5")
    with pytest.raises(ConfigError, match="no linear layers"):
        to_four_bits(nn.Linear(4, 4), "nf4")
