"""Preference losses by hand: values at points where the formulas are simple, and finite far from them.

`tests/golden/test_preference_losses.py` compares whole objectives with TRL's.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bloomery.adapt.preference.losses import dpo_losses, ipo_losses, kto_losses, log_odds, orpo_losses

ONE = torch.tensor([1.0])


def test_no_margin_is_ln_2_whatever_the_smoothing():
    for smoothing in (0.0, 0.3):
        found = dpo_losses(ONE, ONE, beta=0.1, label_smoothing=smoothing)
        assert found.item() == pytest.approx(math.log(2))


def test_dpo_is_the_papers_formula_and_smoothed_has_a_minimum():
    chosen, rejected = torch.tensor([3.0, -2.0]), torch.tensor([1.0, 4.0])
    margin = 0.5 * (chosen - rejected).numpy()
    expected = np.log1p(np.exp(-margin))
    assert np.allclose(dpo_losses(chosen, rejected, beta=0.5).numpy(), expected)
    smoothed = 0.8 * expected + 0.2 * np.log1p(np.exp(margin))
    assert np.allclose(dpo_losses(chosen, rejected, beta=0.5, label_smoothing=0.2).numpy(), smoothed)
    margin_where_it_is_least = torch.tensor([math.log(0.8 / 0.2)], requires_grad=True)
    dpo_losses(margin_where_it_is_least, torch.zeros(1), beta=1.0, label_smoothing=0.2).sum().backward()
    assert margin_where_it_is_least.grad is not None
    assert margin_where_it_is_least.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_ipo_is_least_where_the_margin_per_token_is_half_of_one_over_beta():
    tokens = torch.tensor([4])
    found = ipo_losses(torch.tensor([4 * 2.5]), torch.tensor([0.0]), tokens, tokens, beta=0.2)
    assert found.item() == pytest.approx(0.0)
    assert ipo_losses(ONE * 0, ONE * 0, tokens, tokens, beta=0.2).item() == pytest.approx(2.5**2)


def test_kto_values_good_and_bad_from_the_same_point():
    good = kto_losses(ONE, torch.tensor([True]), torch.tensor(1.0), beta=2.0, desirable_weight=3.0)
    bad = kto_losses(ONE, torch.tensor([False]), torch.tensor(1.0), beta=2.0, undesirable_weight=0.5)
    assert good.item() == pytest.approx(1.5) and bad.item() == pytest.approx(0.25)
    far = kto_losses(ONE * 5, torch.tensor([False]), torch.tensor(0.0), beta=1.0)
    assert far.item() == pytest.approx(1 - 1 / (1 + math.exp(5)), rel=1e-5)


def test_log_odds_are_right_at_both_ends_and_have_gradients_there():
    logprobs = torch.tensor([-1e-4, -0.1, -0.693, -1.0, -20.0], requires_grad=True)
    p = np.exp(logprobs.detach().double().numpy())
    found = log_odds(logprobs)
    assert np.allclose(found.detach().numpy(), np.log(p) - np.log1p(-p), rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert logprobs.grad is not None and bool(logprobs.grad.isfinite().all())
    assert np.allclose(logprobs.grad.numpy(), 1 / (1 - p), rtol=1e-3)  # d/dx [x - log(1 - e^x)]


def test_a_text_that_is_certain_has_finite_odds_and_gradients():
    certain = torch.zeros(1, requires_grad=True)
    loss = orpo_losses(certain, ONE * -1, ONE * 0, beta=0.1)
    loss.sum().backward()
    assert bool(loss.isfinite()) and certain.grad is not None and bool(certain.grad.isfinite())


def test_orpo_adds_the_odds_to_the_likelihood():
    chosen, rejected, nll = torch.tensor([-0.5]), torch.tensor([-1.5]), torch.tensor([0.7])
    odds = [math.exp(x) / (1 - math.exp(x)) for x in (-0.5, -1.5)]
    ratio = math.log(odds[0] / odds[1])
    expected = 0.7 + 0.1 * math.log1p(math.exp(-ratio))
    assert orpo_losses(chosen, rejected, nll, beta=0.1).item() == pytest.approx(expected, rel=1e-5)
