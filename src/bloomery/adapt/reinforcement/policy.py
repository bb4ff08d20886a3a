"""The policy's loss, as its papers state it, of log-probabilities and advantages alone; group-relative advantages.

GRPO: Shao et al. 2024, arXiv 2402.03300, eq. 3-4; Dr. GRPO: Liu et al. 2025, arXiv 2503.20783; averaging over tokens
and two clips: DAPO, Yu et al. 2025, arXiv 2503.14476. This module does not know models. Shapes: B answers, T tokens, G
group.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

EPSILON = 1e-4
"""Beside a standard deviation that may be 0: a group whose answers are all worth the same teaches nothing."""


def advantages(rewards: Tensor, group: int, scale: Literal["group", "batch", "none"]) -> Tensor:
    """(B,) of rewards (B,), `group` answers of each prompt one after another: the distance from their mean, divided by
    the (unbiased) standard deviation of the group or of the batch, or by nothing."""
    grouped = rewards.view(-1, group)
    gaps = grouped - grouped.mean(1, keepdim=True)
    if scale == "group":
        gaps = gaps / (grouped.std(1, keepdim=True) + EPSILON)
    elif scale == "batch":
        gaps = gaps / (rewards.std() + EPSILON)
    return gaps.flatten()


def token_losses(
    logprobs: Tensor,
    old: Tensor,
    advantage: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    reference: Tensor | None = None,
    kl_weight: float = 0.0,
    kl_weighted: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """(losses, which are clipped, distance from the reference in nats), each (B, T).

    -min(r A, clip(r, 1 - low, 1 + high) A) + kl_weight KL with r = exp(logprobs - old), A (B,), and the estimate
    exp(reference - logprobs) - (reference - logprobs) - 1 of KL, which is never negative (Schulman 2020; eq. 4). Its
    own gradient is not that of KL; multiplied by r (`kl_weighted`) it is, without bias (DeepSeek-V3.2, arXiv
    2512.02556).
    """
    ratio, weight = torch.exp(logprobs - old), advantage.unsqueeze(1)
    bounded = ratio.clamp(1 - clip_low, 1 + clip_high)
    losses = -torch.minimum(ratio * weight, bounded * weight)
    clipped = ((ratio < 1 - clip_low) & (weight < 0)) | ((ratio > 1 + clip_high) & (weight > 0))
    if reference is None:
        return losses, clipped, torch.zeros_like(losses)
    gap = reference - logprobs
    distance = torch.exp(gap) - gap - 1
    return losses + kl_weight * (ratio * distance if kl_weighted else distance), clipped, distance


def token_weights(lengths: Tensor, average: Literal["sequence", "tokens", "constant"], longest: int) -> Tensor:
    """(B,) what a token's loss of each answer is multiplied by, so that the sum over B answers is B times the mean that
    is meant; `lengths` (B,) are tokens that count."""
    if average == "sequence":
        return 1.0 / lengths.clamp_min(1)
    if average == "tokens":
        return (len(lengths) / lengths.sum().clamp_min(1)).expand(len(lengths))
    return torch.full(lengths.shape, 1.0 / longest)
