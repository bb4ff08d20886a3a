"""Rotary frequencies against transformers' own functions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.rope import RopeScaling, inverse_frequencies, rope_tables, rotate

SCALINGS: list[dict[str, Any]] = [
    {"rope_type": "linear", "factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096},
    {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64, "beta_fast": 8.0, "beta_slow": 2.0},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512, "truncate": False},
    {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512, "mscale": 0.7, "mscale_all_dim": 1.2},
    {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 512, "attention_factor": 0.9},
]


@pytest.mark.parametrize("head_dim", [8, 24, 64, 128])
@pytest.mark.parametrize("theta", [1e4, 5e5])
@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s["rope_type"])
def test_scalings(scaling: dict[str, Any], theta: float, head_dim: int):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = LlamaConfig(
        hidden_size=head_dim * 2,
        num_attention_heads=2,
        head_dim=head_dim,
        max_position_embeddings=32768,
        rope_parameters={**scaling, "rope_theta": theta},
    )
    expected, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, torch.device("cpu"))
    got, got_factor = inverse_frequencies(head_dim, theta, RopeScaling(**scaling), 32768)
    assert torch.equal(got, expected)
    assert got_factor == factor


LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0 + n / 8 for n in range(8)],
    "long_factor": [1.5**n for n in range(8)],
    "original_max_position_embeddings": 512,
}


@pytest.mark.parametrize("length", [7, 511, 512, 513, 2048, 5000])
@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "dynamic", "factor": 4.0},
        LONGROPE,
        {**LONGROPE, "factor": 3.0},
        {**LONGROPE, "attention_factor": 1.1},
        {**LONGROPE, "factor": 1.0},
    ],
    ids=["dynamic", "longrope", "longrope factor", "longrope attention factor", "longrope unscaled"],
)
def test_scalings_that_depend_on_the_length(scaling: dict[str, Any], length: int):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    context = 512 if scaling["rope_type"] == "dynamic" else 4096
    config = LlamaConfig(
        hidden_size=32,
        num_attention_heads=2,
        head_dim=16,
        max_position_embeddings=context,
        rope_parameters={**scaling, "rope_theta": 1e4},
    )
    ours = RopeScaling(**{key: tuple(value) if isinstance(value, list) else value for key, value in scaling.items()})
    reach = ours.reach(length, context)
    assert bool(reach) == (length > 512)
    seen = torch.tensor(length) if scaling["rope_type"] == "dynamic" and reach else length
    expected, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, torch.device("cpu"), seq_len=seen)
    got, got_factor = inverse_frequencies(16, 1e4, ours, context, reach)
    assert torch.equal(got, expected)
    assert got_factor == factor


def test_rotation_keeps_lengths_and_depends_on_distance():
    frequencies, factor = inverse_frequencies(16, 1e4, None, 64)
    cos, sin = rope_tables(frequencies, factor, 64)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 1, 16, generator=generator).expand(1, 1, 64, 16) for _ in range(2))
    turned_q, turned_k = rotate(q, cos, sin), rotate(k, cos, sin)
    assert torch.allclose(turned_q.norm(dim=-1), q.norm(dim=-1), atol=1e-5)
    scores = (turned_q @ turned_k.mT)[0, 0]
    for distance in (0, 3, 17):
        diagonal = scores.diagonal(-distance)
        assert torch.allclose(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rope_type": "ntk", "factor": 2.0},
        {"rope_type": "dynamic"},
        {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 32},
        {"rope_type": "longrope", "short_factor": (1.0,)},
        {"rope_type": "longrope", "short_factor": (1.0,), "long_factor": (0.0,)},
        {"rope_type": "linear", "factor": 2.0, "long_factor": (1.0,)},
        {"rope_type": "linear", "factor": 0.5},
        {"rope_type": "linear", "factor": float("nan")},
        {"rope_type": "llama3", "factor": 8.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0},
        {"rope_type": "linear", "factor": 2.0, "low_freq_factor": 1.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "beta_fast": 32.0},
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": -5},
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 0},
        {"rope_type": "yarn", "factor": 2.0, "beta_fast": -1.0},
        {"rope_type": "yarn", "factor": 2.0, "beta_slow": 0.0},
        {"rope_type": "yarn", "factor": 2.0, "beta_fast": 0.5},
        {"rope_type": "yarn", "factor": 2.0, "attention_factor": -1.0},
        {"rope_type": "yarn", "factor": 2.0, "mscale": float("inf"), "mscale_all_dim": 1.0},
    ],
)
def test_what_makes_no_sense(wrong: dict[str, Any]):
    with pytest.raises(ConfigError):
        RopeScaling(**wrong)
