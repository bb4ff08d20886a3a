"""Activations are transformers'; experts are the sum of what each does alone."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.feed_forward import (
    ACTIVATIONS,
    FeedForward,
    GatedFeedForward,
    MixtureOfExperts,
    activation,
    squared_relu,
)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"relu2"}))
def test_activations_are_the_reference(name: str):
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 401)
    # gelu_fast rounds a constant of the tanh form at the seventh digit.
    torch.testing.assert_close(activation(name)(x), ACT2FN[name](x), rtol=1e-5, atol=1e-6)


def test_squared_relu():
    assert squared_relu(torch.tensor([-2.0, 0.0, 3.0])).tolist() == [0.0, 0.0, 9.0]


def test_unknown_activation():
    with pytest.raises(ConfigError, match="gelo") as caught:
        activation("gelo")
    assert "gelu" in caught.value.hint


def test_gate_and_plain():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8)
    gated, plain = GatedFeedForward(8, 12, "silu", bias=True), FeedForward(8, 12, "relu", bias=False)
    by_hand = gated.down_proj(torch.nn.functional.silu(gated.gate_proj(x)) * gated.up_proj(x))
    torch.testing.assert_close(gated(x), by_hand)
    torch.testing.assert_close(plain(x), plain.up_proj(x).relu() @ plain.down_proj.weight.T)


@pytest.mark.parametrize("normalised", [True, False])
def test_experts_add_up(normalised: bool):
    torch.manual_seed(0)
    experts = MixtureOfExperts(8, 12, "silu", num_experts=5, num_experts_per_tok=2, norm_topk_prob=normalised)
    x = torch.randn(3, 4, 8)
    out = experts(x)
    for row in range(3):
        for place in range(4):
            token = x[row, place]
            probabilities = experts.gate(token).softmax(-1)
            weights, chosen = probabilities.topk(2)
            weights = weights / weights.sum() if normalised else weights
            expected = sum(w * experts.experts[int(e)](token) for w, e in zip(weights, chosen, strict=True))
            torch.testing.assert_close(out[row, place], expected, rtol=1e-5, atol=1e-6)


def test_every_expert_that_is_used_learns():
    torch.manual_seed(0)
    experts = MixtureOfExperts(8, 12, "silu", num_experts=3, num_experts_per_tok=3, norm_topk_prob=True)
    experts(torch.randn(2, 4, 8)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in experts.parameters())
