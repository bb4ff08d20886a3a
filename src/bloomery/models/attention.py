"""The one attention: self and cross, causal and bidirectional, windowed, grouped, with or without rotary positions.

softmax(q k / scale + mask) v (Vaswani et al., arXiv 1706.03762) with H query heads in H_kv groups (Ainslie et al.,
arXiv 2305.13245), through one of PyTorch's fused kernels (`BACKENDS`). Masks are made once for all layers
(`causal_mask`). Shapes: B batch, T query length, S key length, H heads, D head_dim, E hidden_size. This module does not
know families, files or where a cache comes from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models import fused
from bloomery.models.flex import flex_attend
from bloomery.models.packed_texts import SideBySide, attend_varlen, computes_varlen
from bloomery.models.rope import rotate

BACKENDS = ("sdpa", "sdpa_apart", "sdpa_together", "varlen", "flex", "flex_eager")
"""How attention is computed; all give the same within rounding.

"sdpa": scaled_dot_product_attention, which has forward and backward everywhere and no start-up; scores that are capped
(Gemma 2) are computed in the open, for it caps none, and of a window it computes what is hidden too. Texts that lie in
one row (`Mask.lengths`) it computes by themselves on a CPU ("sdpa_apart"), which pads nothing, and elsewhere side by
side in few calls ("sdpa_together"), for there a call costs more than padding. "varlen": one call for texts of any
length where they are causal or see everything; without a cap or a window, on a GPU, in half precision. "flex":
flex_attention, which caps scores inside the kernel and leaves out blocks that are hidden. It is compiled for each kind
of mask (on a CPU for each length too; PyTorch keeps eight), which takes up to minutes and a C++ compiler or Triton:
so it pays where many long texts are read whole, with a cap or a narrow window, and elsewhere sdpa does. A single query
goes to sdpa, for it has nothing to leave out. PyTorch has no backward of it on CPUs. "flex_eager" is the same without a
compiler, slower than sdpa: for comparison. `benchmarks/bench_attention.py` measures them where you are.
"""


in_training: Callable[[Tensor, Tensor, Tensor, bool, float], Tensor | None] | None = None
"""Attention of a training step on a CPU from (query, key, value, causal, scale), or None where it is not for them.
`bloomery.training` puts `native.attention_training` here: native code knows this module, not the other way round."""

_GATE_INPUTS = 32
"""How many numbers of the residual stream a gate of value embeddings looks at: nanochat's choice."""


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
    softmax, which is also how relative positions come in); None: all. `lengths` are those of texts that lie one after
    the other in a single row: each sees itself only, and `tensor` (..., longest, longest) counts from its start.
    `window` and `slopes` are for a `RaggedCache`, which makes its masks itself: how many positions back a query sees,
    its own included, and by what a score falls with each of them, (H).
    """

    tensor: Tensor | None = None
    causal: bool = False
    lengths: tuple[int, ...] | None = None
    window: int | None = None
    slopes: Tensor | None = None
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What a backend has made of it for one layer and needs again for the next."""


EVERYTHING = Mask()


class RaggedCache(ABC):
    """A cache of several sequences whose new tokens lie one after the other in a single row (1, N): it attends itself,
    for only it knows which tokens belong together. `positions` (N,) are theirs, `longest` is the longest sequence."""

    positions: Tensor
    longest: int
    reaches: Tensor
    """(N,): `ModelConfig.reach` of each token's sequence; int64 on the CPU."""

    @abstractmethod
    def previous(self, input_ids: Tensor, none: int) -> Tensor:
        """(1, N): the id before each of (1, N) new ones; `none` where a sequence begins."""

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
        backend: str = "sdpa",
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


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask,
    *,
    scale: float,
    softcap: float | None,
    backend: str = "sdpa",
    training: bool = False,
) -> Tensor:
    """(B, H, T, D), (B, H_kv, S, D) twice -> (B, H, T, D), by one of BACKENDS; in `training` by `in_training`, if it
    is for it."""
    if backend.startswith("flex") and query.size(2) > 1:
        mask = block_diagonal(mask, query.device)
        return flex_attend(
            query,
            key,
            value,
            tensor=mask.tensor,
            causal=mask.causal,
            scale=scale,
            softcap=softcap,
            compiled=backend == "flex",
            memo=mask.memo,
        )
    if mask.lengths is not None:
        return _attend_texts(query, key, value, mask, scale=scale, softcap=softcap, backend=backend, training=training)
    if softcap is None:
        tensor = mask.tensor
        if training and tensor is None and in_training is not None:
            found = in_training(query, key, value, mask.causal, scale)
            if found is not None:
                return found
        if tensor is not None and tensor.is_floating_point():
            tensor = tensor.to(query.dtype)
        grouped = query.size(1) != key.size(1)
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=tensor, is_causal=mask.causal, scale=scale, enable_gqa=grouped
        )
    return weights(query, key, mask, scale=scale, softcap=softcap).to(value.dtype) @ _per_head(value, query.size(1))


def _attend_texts(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask,
    *,
    scale: float,
    softcap: float | None,
    backend: str,
    training: bool,
) -> Tensor:
    """Texts of `mask.lengths` in one row (1, H, N, D)."""
    lengths = mask.lengths or ()
    plain = mask.tensor is None and softcap is None
    if plain and (backend == "varlen" or (backend == "sdpa" and computes_varlen(query))):
        return attend_varlen(query, key, value, lengths, causal=mask.causal, scale=scale, memo=mask.memo)
    if backend == "sdpa_apart" or (backend == "sdpa" and query.device.type == "cpu"):
        return _attend_apart(query, key, value, mask, scale=scale, softcap=softcap, training=training)
    if "side_by_side" not in mask.memo:
        made = SideBySide(lengths, query.device)
        masks = [Mask(own, causal=mask.causal) for own in made.masks(mask.tensor, mask.causal, query.device)]
        mask.memo["side_by_side"] = made, masks
    rows, masks = mask.memo["side_by_side"]
    parts = zip(*(rows.parts(x) for x in (query, key, value)), masks, strict=True)
    return rows.joined([attend(q, k, v, own, scale=scale, softcap=softcap) for q, k, v, own in parts])


def _attend_apart(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask, *, scale: float, softcap: float | None, training: bool
) -> Tensor:
    """Each text by itself; neighbours of one length together."""
    parts = []
    for start, stop, length in _runs(mask.lengths or ()):
        # (1, H, n length, D) -> (n, H, length, D)
        q, k, v = (x[0, :, start:stop].unflatten(1, (-1, length)).transpose(0, 1) for x in (query, key, value))
        own = Mask(None if mask.tensor is None else mask.tensor[..., :length, :length], causal=mask.causal)
        out = attend(q, k, v, own, scale=scale, softcap=softcap, training=training)
        parts.append(out.transpose(0, 1).flatten(1, 2))
    return torch.cat(parts, dim=1)[None]


def _runs(lengths: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(start, stop, length) of neighbouring texts of one length."""
    start = 0
    for length, run in groupby(lengths):
        stop = start + length * sum(1 for _ in run)
        yield start, stop, length
        start = stop


def block_diagonal(mask: Mask, device: torch.device) -> Mask:
    """The mask with its `lengths` written out, (..., N, N), float where the mask's tensor is; itself if it has none."""
    if mask.lengths is None or "block_diagonal" in mask.memo:
        return mask.memo.get("block_diagonal", mask)
    lengths = torch.tensor(mask.lengths, device=device)
    texts = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)
    seen = texts[:, None] == texts[None, :]
    places = torch.cat([torch.arange(length, device=device) for length in mask.lengths])
    if mask.causal:
        seen &= places[:, None] >= places[None, :]
    if mask.tensor is not None:
        own = mask.tensor[..., places[:, None], places[None, :]]
        seen = own.masked_fill(~seen, -torch.inf) if own.is_floating_point() else seen & own
    return mask.memo.setdefault("block_diagonal", Mask(seen))


def scores(query: Tensor, key: Tensor, *, scale: float, softcap: float | None = None) -> Tensor:
    """Scaled and, if asked, capped scores (B, H, T, S) before the mask."""
    result = (query @ _per_head(key, query.size(1)).transpose(-1, -2)) * scale
    return result if softcap is None else torch.tanh(result / softcap) * softcap


def weights(query: Tensor, key: Tensor, mask: Mask, *, scale: float, softcap: float | None = None) -> Tensor:
    """Attention weights (B, H, T, S), float32: each row sums to one."""
    return masked(scores(query, key, scale=scale, softcap=softcap), mask).float().softmax(dim=-1)


def masked(scores: Tensor, mask: Mask) -> Tensor:
    """Scores (B, H, T, S) with what a mask adds, and -inf where it hides."""
    mask = block_diagonal(mask, scores.device)
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
    rotation. `scale` None is D^-1/2. `backend` is one of BACKENDS; see `use_backend`.
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
        value_gate: bool = False,
        layer: int = 0,
    ) -> None:
        """`qkv_bias` for all three or one by one; `norm` makes the norm that `qk_norm` places; `value_gate` weighs
        value embeddings head by head; `layer` is the number under which keys and values lie in a cache."""
        super().__init__()
        self.layer, self.backend = layer, "sdpa"
        self.heads, self.kv_heads, self.head_dim = num_heads, num_kv_heads or num_heads, head_dim
        self.scale = head_dim**-0.5 if scale is None else scale
        self.softcap = softcap
        inner, kv_inner, source = num_heads * head_dim, self.kv_heads * head_dim, memory_size or hidden_size
        biases = (qkv_bias,) * 3 if isinstance(qkv_bias, bool) else qkv_bias
        self.q_proj = nn.Linear(hidden_size, inner, bias=biases[0])
        self.k_proj = nn.Linear(source, kv_inner, bias=biases[1])
        self.v_proj = nn.Linear(source, kv_inner, bias=biases[2])
        self.o_proj = nn.Linear(inner, hidden_size, bias=output_bias)
        self.v_gate = nn.Linear(min(_GATE_INPUTS, hidden_size), self.kv_heads, bias=False) if value_gate else None
        self.qk_norm = qk_norm
        self.q_norm = self.k_norm = None
        if qk_norm is not None:
            assert norm is not None and qk_norm in ("head", "projection")
            self.q_norm = norm(head_dim if qk_norm == "head" else inner)
            self.k_norm = norm(head_dim if qk_norm == "head" else kv_inner)

    def queries(self, x: Tensor, tables: Tables | None) -> Tensor:
        """(B, T, E) -> (B, H, T, D), normalised and rotated."""
        return self._place(self.q_proj(x), self.heads, self.q_norm, tables)

    def keys_values(
        self, x: Tensor, tables: Tables | None, value_embeds: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, S, E) -> keys and values (B, H_kv, S, D), keys normalised and rotated.

        `value_embeds` (B, S, H_kv D) are added to the values, each head's times a gate from 0 to 2.
        """
        return self._keys_values(x, self.k_proj(x), self.v_proj(x), tables, value_embeds)

    def _keys_values(
        self, x: Tensor, key: Tensor, value: Tensor, tables: Tables | None, value_embeds: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`keys_values` of what is projected already."""
        value = value.unflatten(-1, (self.kv_heads, self.head_dim))
        if self.v_gate is not None and value_embeds is not None:
            gate = 2 * torch.sigmoid(self.v_gate(x[..., : self.v_gate.in_features]))
            value = value + gate[..., None].to(value.dtype) * value_embeds.view_as(value).to(value.dtype)
        return self._place(key, self.kv_heads, self.k_norm, tables), value.transpose(1, 2)

    @property
    def _inputs(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.q_proj, self.k_proj, self.v_proj

    def _projects_together(self, x: Tensor) -> bool:
        """Whether queries, keys and values can be one product: of plain matrices that nothing listens to or replaces
        (adapters, shards of ranks, hooks)."""
        return (
            self.training
            and fused.trains_here(x)
            and all(
                type(part) is nn.Linear
                and part.bias is None
                and type(part.weight) is nn.Parameter
                and not (part._forward_hooks or part._forward_pre_hooks or part._backward_hooks)
                for part in self._inputs
            )
        )

    def _place(self, x: Tensor, heads: int, norm: nn.Module | None, tables: Tables | None) -> Tensor:
        dtype = x.dtype
        if norm is not None and self.qk_norm == "projection":
            x = norm(x)
        x = x.unflatten(-1, (heads, self.head_dim))
        if norm is not None and self.qk_norm == "head":
            x = norm(x)
        x = x.transpose(1, 2)
        return (x if tables is None else rotate(x, *tables, training=self.training)).to(dtype)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask = EVERYTHING,
        tables: Tables | None = None,
        cache: Cache | RaggedCache | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
        value_embeds: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, E) -> (B, T, E). `memory` is what `keys_values` made of another sequence (cross attention);
        a `cache` takes this step's keys and values and gives back all so far; `value_embeds` as in `keys_values`."""
        if memory is None and cache is None and self._projects_together(x):
            q, k, v = fused.projections(x, *(part.weight for part in self._inputs))
            query = self._place(q, self.heads, self.q_norm, tables)
            key, value = self._keys_values(x, k, v, tables, value_embeds)
        else:
            query = self.queries(x, tables)
            key, value = self.keys_values(x, tables, value_embeds) if memory is None else memory
        how: dict[str, Any] = {"scale": self.scale, "softcap": self.softcap, "backend": self.backend}
        if isinstance(cache, RaggedCache):
            out = cache.attend(self.layer, query, key, value, mask, **how)
            return self.o_proj(out.transpose(1, 2).flatten(2))
        if cache is not None and memory is None:
            key, value = cache.write(self.layer, key, value)
        out = attend(query, key, value, mask, training=self.training, **how)
        return self.o_proj(out.transpose(1, 2).flatten(2))


def use_backend(model: nn.Module, name: str) -> None:
    """Let every attention of a model be computed by one of BACKENDS; ConfigError for another name."""
    if name not in BACKENDS:
        raise ConfigError(f"unknown attention {name!r:.60}", hint=nearest(name, BACKENDS))
    for module in model.modules():
        if isinstance(module, Attention):
            module.backend = name
