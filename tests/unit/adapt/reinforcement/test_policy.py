"""The policy's loss by hand. `tests/golden/test_policy_loss.py` compares it with TRL's."""

from __future__ import annotations

import math

import pytest
import torch

from bloomery.adapt.reinforcement.policy import advantages, token_losses, token_weights


def test_a_group_whose_answers_are_alike_teaches_nothing():
    found = advantages(torch.tensor([1.0, 1.0, 0.0, 1.0]), 2, "group")
    assert found[:2].tolist() == [0.0, 0.0] and found[2] < 0 < found[3]
    assert advantages(torch.tensor([1.0, 0.0]), 2, "none").tolist() == [0.5, -0.5]


def _loss(ratio: float, advantage: float) -> float:
    logprobs = torch.tensor([[math.log(ratio)]])
    return token_losses(logprobs, torch.zeros(1, 1), torch.tensor([advantage]), clip_low=0.2, clip_high=0.3)[0].item()


def test_the_ratio_is_clipped_only_where_going_on_would_gain():
    assert _loss(2.0, 1.0) == pytest.approx(-1.3) and _loss(0.5, 1.0) == pytest.approx(-0.5)
    assert _loss(0.5, -1.0) == pytest.approx(0.8) and _loss(2.0, -1.0) == pytest.approx(2.0)


def test_the_first_step_s_gradient_is_the_policy_gradient():
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    token_losses(logprobs, logprobs.detach(), torch.tensor([0.7]), clip_low=0.2, clip_high=0.2)[0].sum().backward()
    assert logprobs.grad is not None and torch.allclose(logprobs.grad, torch.full((1, 2), -0.7))


def test_the_weighted_distance_s_gradient_is_kl_s_own():
    """Over all tokens of a small vocabulary: the expectation of the gradient is that of KL(policy || reference)."""
    torch.manual_seed(0)
    logits, reference = torch.randn(6, requires_grad=True, dtype=torch.float64), torch.randn(6).double().log_softmax(0)
    (exact,) = torch.autograd.grad((logits.softmax(0) * (logits.log_softmax(0) - reference)).sum(), logits)
    found = []
    for weighted in (True, False):
        said = logits.log_softmax(0)[:, None]
        losses, _, _ = token_losses(
            said,
            said.detach(),
            torch.zeros(6, dtype=torch.float64),
            clip_low=0.2,
            clip_high=0.2,
            reference=reference[:, None],
            kl_weight=1.0,
            kl_weighted=weighted,
        )
        found += torch.autograd.grad((logits.softmax(0).detach() * losses[:, 0]).sum(), logits)
    assert torch.allclose(found[0], exact) and not torch.allclose(found[1], exact, rtol=0.05)


def test_weights_make_the_mean_that_is_meant():
    lengths = torch.tensor([2, 6])
    sums = torch.tensor([2 * 1.0, 6 * 3.0])  # tokens of loss 1 and of loss 3
    means = {
        name: float((token_weights(lengths, name, 10) * sums).sum() / 2) for name in ("sequence", "tokens", "constant")
    }  # type: ignore[arg-type]
    assert means == {
        "sequence": pytest.approx(2.0),
        "tokens": pytest.approx(20 / 8),
        "constant": pytest.approx(20 / 20),
    }
