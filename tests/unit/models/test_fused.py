"""Backward passes written by hand: beside PyTorch's own operators, and beside finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.models import fused
from bloomery.models.attention import Attention
from bloomery.models.feed_forward import FeedForward
from bloomery.models.norms import RMSNorm
from bloomery.models.rope import inverse_frequencies, rope_tables, rotate


def _plain_rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _tables(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    cos, sin = rope_tables(*inverse_frequencies(8, 10000.0, None, 64), 5)
    return cos.to(dtype), sin.to(dtype)


def _matrices(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(rows, 8, generator=generator).to(dtype) for rows in (6, 4, 4)]


PAIRS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "rms_norm": (
        lambda x: fused.rms_norm(x, torch.linspace(0.5, 2, 8, dtype=x.dtype), 1e-6),
        lambda x: F.rms_norm(x, (8,), torch.linspace(0.5, 2, 8, dtype=x.dtype), 1e-6),
    ),
    "rotate": (
        lambda x: fused.rotate(x, *_tables(x.dtype)),
        lambda x: _plain_rotate(x, *_tables(x.dtype)),
    ),
    "projections": (
        lambda x: torch.cat(fused.projections(x, *_matrices(x.dtype)), -1),
        lambda x: torch.cat([F.linear(x, weight) for weight in _matrices(x.dtype)], -1),
    ),
    "squared_relu": (fused.squared_relu, lambda x: F.relu(x).square()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_gradients_are_those_of_the_plain_operators(name: str):
    ours, plain = PAIRS[name]
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for function in (ours, plain):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out))
        found.append((out.detach(), leaf.grad))
    for got, wanted in zip(*found, strict=True):
        # Sums of 8 numbers in another order: a few units in the last place of float32.
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-6)
    torch.autograd.gradcheck(ours, x[:1].double().requires_grad_())


def test_matrices_that_are_multiplied_together_have_their_gradients():
    x = torch.randn(2, 3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(6), requires_grad=True)
    weights = [weight.requires_grad_() for weight in _matrices(torch.float64)]
    torch.autograd.gradcheck(fused.projections, (x, *weights))
    frozen = [weight.detach() for weight in weights]
    torch.autograd.gradcheck(fused.projections, (x, *frozen))
    torch.autograd.gradcheck(lambda *some: fused.projections(x.detach(), *some), weights)


def _attention(**how: bool) -> Attention:
    """One in training."""
    torch.manual_seed(7)
    return Attention(hidden_size=16, num_heads=4, head_dim=4, num_kv_heads=2, **how).train()


def test_attention_projects_together_what_nothing_listens_to(monkeypatch: pytest.MonkeyPatch):
    """The output is the same; with a bias, a hook, a matrix in another's place or in evaluation each is by itself."""
    calls: list[int] = []
    usual = fused.projections
    monkeypatch.setattr(fused, "projections", lambda x, *weights: calls.append(len(weights)) or usual(x, *weights))
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(8)).requires_grad_()
    attention = _attention()
    together = attention(x)
    assert calls == [3]
    assert torch.allclose(attention.eval()(x), together, atol=1e-6)
    attention.train()
    heard: list[int] = []
    handle = attention.k_proj.register_forward_hook(lambda *_: heard.append(1))
    assert torch.allclose(attention(x), together, atol=1e-6) and heard == [1]
    handle.remove()
    attention.v_proj = torch.nn.Sequential(attention.v_proj)  # type: ignore[assignment]
    assert torch.allclose(attention(x), together, atol=1e-6)
    _attention(qkv_bias=True)(x)
    _attention(value_gate=True)(x.detach())
    assert calls == [3]
    _attention(value_gate=True)(x, value_embeds=torch.ones(2, 5, 8))
    assert calls == [3, 3]


def test_the_weight_of_a_norm_has_its_gradient():
    x = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = torch.linspace(0.5, 2, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda w: fused.rms_norm(x, w, 1e-6), weight)


def test_they_are_used_in_training_and_nowhere_else():
    norm, feed, x = RMSNorm(8, 1e-6), FeedForward(8, 16, "relu2", bias=False), torch.randn(4, 8, requires_grad=True)
    tables = tuple(table[:4] for table in _tables(torch.float32))

    def names(training: bool) -> list[str]:
        parts = (norm.train(training)(x), rotate(x.view(1, 1, 4, 8), *tables, training=training))
        before = feed.train(training)(x).grad_fn.next_functions  # type: ignore[union-attr]
        return [str(type(part.grad_fn).__name__) for part in parts] + [str(one[0]) for one in before]

    assert all(any(part in name for name in names(True)) for part in ("_RMSNorm", "_Rotate", "_SquaredReLU"))
    assert not any("_RMSNorm" in name or "_Rotate" in name or "_SquaredReLU" in name for name in names(False))
    # To the last bit what published families are compared with.
    assert torch.equal(norm.eval()(x), F.rms_norm(x, (8,), norm.weight, 1e-6))
    assert not fused.pays(x.detach()) and not fused.pays(x.double()) and fused.pays(x)
