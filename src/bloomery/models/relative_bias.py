"""Relative positions: learned biases in buckets of distance, added to attention scores (T5).

Raffel et al., arXiv 1910.10683. Shapes: T query length, S key length, H heads. This module does not know attention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def buckets(distance: Tensor, *, bidirectional: bool, num_buckets: int, max_distance: int) -> Tensor:
    """Bucket of each distance (key position less query position), int64 of the same shape.

    Half of the buckets stand for one distance each, the others for ranges that grow with the logarithm up to
    `max_distance`; keys ahead have buckets of their own if `bidirectional`, and share the first one if not.
    """
    ahead = torch.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        ahead = (distance > 0).to(distance.dtype) * num_buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp_min(0)
    exact = num_buckets // 2
    share = torch.log(distance.float().clamp_min(1) / exact) / math.log(max_distance / exact)
    large = (exact + (share * (num_buckets - exact)).to(distance.dtype)).clamp_max(num_buckets - 1)
    return ahead + torch.where(distance < exact, distance, large)


class RelativeBias(nn.Module):
    """One learned number for each bucket and head."""

    def __init__(self, num_heads: int, *, num_buckets: int, max_distance: int, bidirectional: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_buckets, num_heads)
        self.max_distance, self.bidirectional = max_distance, bidirectional

    def forward(self, start: int, length: int, total: int) -> Tensor:
        """Bias (1, H, T, S) of the queries at positions start .. start + length - 1 over `total` keys."""
        device = self.embedding.weight.device
        queries = torch.arange(start, start + length, device=device)[:, None]
        distance = torch.arange(total, device=device)[None, :] - queries
        chosen = buckets(
            distance,
            bidirectional=self.bidirectional,
            num_buckets=self.embedding.num_embeddings,
            max_distance=self.max_distance,
        )
        return self.embedding(chosen).permute(2, 0, 1)[None]
