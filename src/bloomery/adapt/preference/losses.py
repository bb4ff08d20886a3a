"""Preference losses as their papers state them, of log-probabilities alone: DPO, IPO, KTO, ORPO.

Every function takes float32 log-probabilities of whole completions, one number an example, in nats, and returns one
loss an example. This module does not know models, texts or batches. Shape: B examples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo_losses(chosen: Tensor, rejected: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, eq. 7): -log sigmoid(beta margin).

    `chosen` and `rejected` (B,) are log-ratios, policy over reference. With `label_smoothing` e a preference is taken
    to be the wrong way round that often (conservative DPO, Mitchell 2023): -(1 - e) log sigmoid(x) - e log sigmoid(-x).
    """
    margin = beta * (chosen - rejected)
    losses = -F.logsigmoid(margin)
    if not label_smoothing:
        return losses
    return (1 - label_smoothing) * losses - label_smoothing * F.logsigmoid(-margin)


def ipo_losses(
    chosen: Tensor, rejected: Tensor, chosen_tokens: Tensor, rejected_tokens: Tensor, *, beta: float
) -> Tensor:
    """Identity preference optimisation (Azar et al. 2023, arXiv 2310.12036, eq. 17): (margin - 1 / (2 beta))^2.

    Log-ratios (B,) are divided by their completions' tokens first, as the paper's authors did: without that the square
    grows with the length of a text.
    """
    margin = chosen / chosen_tokens.clamp_min(1) - rejected / rejected_tokens.clamp_min(1)
    return (margin - 1 / (2 * beta)).square()


def kto_losses(
    logratios: Tensor,
    desirable: Tensor,
    kl: Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 7-8), of completions judged singly.

    weight x (1 - sigmoid(+-beta (log-ratio - kl))): + where `desirable` (B,) is true. `kl` is the reference point, a
    scalar that carries no gradient: the mean log-ratio of completions under other prompts, not below zero.
    """
    sign = torch.where(desirable, 1.0, -1.0)
    weight = torch.where(desirable, desirable_weight, undesirable_weight)
    return weight * (1 - torch.sigmoid(sign * beta * (logratios - kl)))


def log_odds(mean_logprobs: Tensor) -> Tensor:
    """log(p / (1 - p)) of p = exp(mean log-probability of a completion's tokens); of a certain text, which rounds to
    p = 1, a large number without a gradient."""
    mean_logprobs = mean_logprobs.clamp_max(-1e-6)
    # log(1 - e^x) without cancellation on either side of -ln 2 (Maechler 2012, "Accurately computing log(1 - e^-a)").
    near = torch.log(-torch.expm1(mean_logprobs))
    far = torch.log1p(-torch.exp(mean_logprobs.clamp_max(-0.5)))
    return mean_logprobs - torch.where(mean_logprobs > -0.693, near, far)


def orpo_losses(chosen: Tensor, rejected: Tensor, nll: Tensor, *, beta: float) -> Tensor:
    """Odds-ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691, eq. 6-7), without a reference.

    nll - beta log sigmoid(log odds ratio); `chosen` and `rejected` (B,) are mean log-probabilities of their tokens,
    `nll` (B,) each example's share of the chosen texts' negative log-likelihood. beta is the paper's lambda.
    """
    return nll - beta * F.logsigmoid(log_odds(chosen) - log_odds(rejected))
