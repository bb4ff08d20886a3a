"""Divergences: limits, bounds and candidates, against formulas in NumPy and PyTorch's kl_div."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bloomery.adapt.divergence import (
    candidate_divergence,
    candidates_of,
    divergence,
    model_divergence,
)
from bloomery.models import Decoder, ModelConfig


def _decoder(seed: int, vocabulary: int = 61) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(
        ModelConfig(
            model_type="qwen3",
            vocab_size=vocabulary,
            hidden_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
            head_dim=12,
            max_position_embeddings=32,
            initializer_range=0.4,
        )
    )


def test_the_generalised_divergence_is_its_formula_and_has_its_limits():
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(7), 5) for _ in range(2))
    first, second = (torch.from_numpy(np.log(one)) for one in (p, q))
    for beta in (0.1, 0.5, 0.9):
        m = beta * p + (1 - beta) * q
        expected = beta * (p * np.log(p / m)).sum(1) + (1 - beta) * (q * np.log(q / m)).sum(1)
        assert np.allclose(divergence(first, second, beta).numpy(), expected)
    forward = F.kl_div(second, first, reduction="none", log_target=True).sum(1)
    assert torch.allclose(divergence(first, second, 0.0), forward)
    assert torch.allclose(divergence(first, second, 1.0), divergence(second, first, 0.0))
    assert torch.allclose(divergence(first, first, 0.3), torch.zeros(5, dtype=torch.float64), atol=1e-12)


def test_what_has_no_probability_adds_nothing():
    first = torch.tensor([[0.0, -torch.inf]])
    assert divergence(first, torch.tensor([[0.5, 0.5]]).log(), 0.0).item() == pytest.approx(np.log(2))


def test_candidates_are_a_lower_bound_that_grows_to_the_whole():
    student, teacher = _decoder(0), _decoder(1)
    hidden, its = (one.hidden_states(torch.arange(1, 21)[None])[0].detach() for one in (student, teacher))
    whole = model_divergence(student, hidden, teacher, its, beta=0.0)
    before = torch.zeros_like(whole)
    for count in (2, 10, 40, 61):
        ids, logprobs = candidates_of(teacher, its, count)
        found = candidate_divergence(student, hidden, ids, logprobs, beta=0.0)
        assert (found >= before - 1e-5).all() and (found <= whole + 1e-5).all()
        before = found
    assert torch.allclose(before, whole, atol=1e-5)


def test_a_vocabulary_that_is_padded_further_is_cut():
    student, teacher = _decoder(0), _decoder(1, 64)
    hidden, its = (one.hidden_states(torch.arange(1, 9)[None])[0] for one in (student, teacher))
    expected = divergence(
        F.linear(its, teacher.output_weight)[:, :61].log_softmax(-1),
        F.linear(hidden, student.output_weight).log_softmax(-1),
        0.0,
    )
    assert torch.allclose(model_divergence(student, hidden, teacher, its, beta=0.0), expected, atol=1e-5)


def test_a_head_that_has_changed_is_given_as_it_was():
    model, was = _decoder(0), _decoder(0)
    hidden = was.hidden_states(torch.arange(1, 9)[None])[0].detach()
    weight = model.output_weight.detach().clone()
    with torch.no_grad():
        model.output_weight.add_(torch.randn_like(weight))
    mine = model.hidden_states(torch.arange(1, 9)[None])[0]
    found = model_divergence(model, mine, model, hidden, beta=1.0, teacher_weight=weight)
    assert torch.allclose(found, model_divergence(model, mine, was, hidden, beta=1.0), atol=1e-6)
    assert float(found.detach().sum()) > 0.01
