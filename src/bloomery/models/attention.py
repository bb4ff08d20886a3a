"""The one attention: self and cross, causal and bidirectional, windowed, grouped, with or without rotary positions.

softmax(q k / scale + mask) v (Vaswani et al., arXiv 1706.03762) with H query heads in H_kv groups (Ainslie et al.,
arXiv 2305.13245), through PyTorch's fused kernel; scores that are capped (Gemma 2) are computed in the open, for no
fused kernel caps them. Masks are made once for all layers (`causal_mask`). Shapes: B batch, T query length, S key
length, H heads, D head_dim, E hidden_size. This module does not know families, files or where a cache comes from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.models.rope import rotate


class Cache(Protocol):
    """Where a layer's keys and values of earlier steps are; see `KVCache`."""

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take this step's (B, H_kv, T, D) of both; returns all so far."""
        ...


Tables = tuple[Tensor, Tensor]
"""Rotary cos and sin of the query positions, float32 (T, D_rotary)."""


@dataclass(frozen=True)
class Mask:
    """Which keys a query sees. `causal` alone lets the kernel skip what it need not compute.

    `tensor` (T, S), or broadcastable to (B, H, T, S): bool (True: seen), or float (added to the scores before the
    softmax, which is also how relative positions come in); None: all. `window` is for a `RaggedCache`, which makes
    its masks itself: how many positions back a query sees, its own included.
    """

    tensor: Tensor | None = None
    causal: bool = False
    window: int | None = None


EVERYTHING = Mask()


class RaggedCache(ABC):
    """A cache of several sequences whose new tokens lie one after the other in a single row (1, N): it attends itself,
    for only it knows which tokens belong together. `positions` (N,) are theirs, `longest` is the longest sequence."""

    positions: Tensor
    longest: int

    @abstractmethod
    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask,
        *,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        """(1, H, N, D) of queries, (1, H_kv, N, D) of new keys and values -> (1, H, N, D)."""


def causal_mask(start: int, length: int, window: int | None, device: torch.device) -> Mask:
    """Queries at positions start .. start + length - 1 over all keys so far; with a `window`, only the last
    `window` of them, the query's own included."""
    total = start + length
    if window is None or total <= window:
        if length == 1:
            return EVERYTHING
        if start == 0:
            return Mask(causal=True)
    queries = torch.arange(start, total, device=device)[:, None]
    keys = torch.arange(total, device=device)[None, :]
    seen = keys <= queries
    if window is not None:
        seen &= keys > queries - window
    return Mask(seen)


def window_mask(length: int, radius: int, device: torch.device) -> Tensor:
    """Bidirectional window, bool (T, T): keys at most `radius` positions away."""
    positions = torch.arange(length, device=device)
    return (positions[:, None] - positions[None, :]).abs() <= radius


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask, *, scale: float, softcap: float | None) -> Tensor:
    """(B, H, T, D), (B, H_kv, S, D) twice -> (B, H, T, D)."""
    grouped = query.size(1) != key.size(1)
    if softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask.tensor, is_causal=mask.causal, scale=scale, enable_gqa=grouped
        )
    return weights(query, key, mask, scale=scale, softcap=softcap).to(value.dtype) @ _per_head(value, query.size(1))


def scores(query: Tensor, key: Tensor, *, scale: float, softcap: float | None = None) -> Tensor:
    """Scaled and, if asked, capped scores (B, H, T, S) before the mask."""
    result = (query @ _per_head(key, query.size(1)).transpose(-1, -2)) * scale
    return result if softcap is None else torch.tanh(result / softcap) * softcap


def weights(query: Tensor, key: Tensor, mask: Mask, *, scale: float, softcap: float | None = None) -> Tensor:
    """Attention weights (B, H, T, S), float32: each row sums to one."""
    return masked(scores(query, key, scale=scale, softcap=softcap), mask).float().softmax(dim=-1)


def masked(scores: Tensor, mask: Mask) -> Tensor:
    """Scores (B, H, T, S) with what a mask adds, and -inf where it hides."""
    tensor = mask.tensor
    if mask.causal:
        tensor = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if tensor is None:
        return scores
    return scores.masked_fill(~tensor, -torch.inf) if tensor.dtype == torch.bool else scores + tensor


def _per_head(x: Tensor, heads: int) -> Tensor:
    """(B, H_kv, S, D) -> (B, H, S, D): each group's keys or values for every query head of it."""
    return x if x.size(1) == heads else x.repeat_interleave(heads // x.size(1), dim=1)


class Attention(nn.Module):
    """Queries from x, keys and values from x or from a memory (`memory_size` is its width).

    `qk_norm` "head" normalises queries and keys per head, "projection" over all heads together, both before the
    rotation. `scale` None is D^-1/2.
    """

    def __init__(
        self,
        *,
        hidden_size: int,
        num_heads: int,
        head_dim: int,
        num_kv_heads: int | None = None,
        memory_size: int | None = None,
        qkv_bias: bool | tuple[bool, bool, bool] = False,
        output_bias: bool = False,
        qk_norm: str | None = None,
        norm: Callable[[int], nn.Module] | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        layer: int = 0,
    ) -> None:
        """`qkv_bias` for all three or one by one; `norm` makes the norm that `qk_norm` places; `layer` is the
        number under which keys and values lie in a cache."""
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = num_heads, num_kv_heads or num_heads, head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.softcap = softcap
        inner, kv_inner, source = num_heads * head_dim, self.kv_heads * head_dim, memory_size or hidden_size
        biases = (qkv_bias,) * 3 if isinstance(qkv_bias, bool) else qkv_bias
        self.q_proj = nn.Linear(hidden_size, inner, bias=biases[0])
        self.k_proj = nn.Linear(source, kv_inner, bias=biases[1])
        self.v_proj = nn.Linear(source, kv_inner, bias=biases[2])
        self.o_proj = nn.Linear(inner, hidden_size, bias=output_bias)
        self.qk_norm = qk_norm
        self.q_norm = self.k_norm = None
        if qk_norm is not None:
            assert norm is not None and qk_norm in ("head", "projection")
            self.q_norm = norm(head_dim if qk_norm == "head" else inner)
            self.k_norm = norm(head_dim if qk_norm == "head" else kv_inner)

    def queries(self, x: Tensor, tables: Tables | None) -> Tensor:
        """(B, T, E) -> (B, H, T, D), normalised and rotated."""
        return self._place(self.q_proj(x), self.heads, self.q_norm, tables)

    def keys_values(self, x: Tensor, tables: Tables | None) -> tuple[Tensor, Tensor]:
        """(B, S, E) -> keys and values (B, H_kv, S, D), keys normalised and rotated."""
        value = self.v_proj(x).unflatten(-1, (self.kv_heads, self.head_dim)).transpose(1, 2)
        return self._place(self.k_proj(x), self.kv_heads, self.k_norm, tables), value

    def _place(self, x: Tensor, heads: int, norm: nn.Module | None, tables: Tables | None) -> Tensor:
        dtype = x.dtype
        if norm is not None and self.qk_norm == "projection":
            x = norm(x)
        x = x.unflatten(-1, (heads, self.head_dim))
        if norm is not None and self.qk_norm == "head":
            x = norm(x)
        x = x.transpose(1, 2)
        return (x if tables is None else rotate(x, *tables)).to(dtype)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask = EVERYTHING,
        tables: Tables | None = None,
        cache: Cache | RaggedCache | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """x (B, T, E) -> (B, T, E). `memory` is what `keys_values` made of another sequence (cross attention);
        a `cache` takes this step's keys and values and gives back all so far."""
        query = self.queries(x, tables)
        key, value = self.keys_values(x, tables) if memory is None else memory
        if isinstance(cache, RaggedCache):
            out = cache.attend(self.layer, query, key, value, mask, scale=self.scale, softcap=self.softcap)
            return self.o_proj(out.transpose(1, 2).flatten(2))
        if cache is not None and memory is None:
            key, value = cache.write(self.layer, key, value)
        out = attend(query, key, value, mask, scale=self.scale, softcap=self.softcap)
        return self.o_proj(out.transpose(1, 2).flatten(2))
