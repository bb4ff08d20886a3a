"""Looking inside attention: what the served layers saw is kept, and the numbers are worked out when asked for.

`capture` hangs hooks on attention modules and keeps only their inputs; the fused kernel runs as always. Queries, keys,
scores before and after scale, cap, bias and mask, weights and head outputs are then recomputed for one head and query,
or in chunks of rows, and compared with the output that was served. No tensor of all heads, queries and keys is made.
Shapes: B batch, T query length, S key length, H heads, D head_dim, E hidden_size. This module does not know tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, RequestError, nearest
from bloomery.models.attention import EVERYTHING, Attention, Cache, Mask, Tables, block_diagonal, masked, scores
from bloomery.models.recurrent import Source, SourceAttention

CHUNK_NUMBERS = 1 << 22
"""Scores that are computed at once, at most (unless one row of all heads is more)."""
GRID_LIMIT = 256
"""Rows and columns up to which a head's weights are shown one by one."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one head of one query looks at S keys, step by step; float32."""

    query: Tensor
    """(D): normalised and rotated, as it meets the keys."""
    keys: Tensor
    """(S, D), likewise."""
    products: Tensor
    """(S): q.k; for additive attention its scores."""
    scaled: Tensor
    """(S): products times the scale."""
    capped: Tensor
    """(S): after the soft cap; as `scaled` without one."""
    masked: Tensor
    """(S): after bias and mask; -inf is hidden."""
    weights: Tensor
    """(S): their softmax, which sums to one."""
    value_norms: Tensor
    """(S): |weight times value|, what each key adds to the head's output (Kobayashi et al., arXiv 2004.10102)."""
    head_output: Tensor
    """(D): the weighted sum of values."""
    contribution: Tensor | None
    """(E): what this head adds to the layer's output, through its part of o_proj; None for a recurrent net."""


class Look(Protocol):
    """One forward of one attention."""

    name: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, T, S)."""
        ...

    def weights(self, start: int, stop: int, *, batch: int = 0, head: int | None = None) -> Tensor:
        """Weights (H, n, S) of the queries start .. stop - 1, float32; (1, n, S) of one head."""
        ...

    def row(self, head: int, query: int, *, batch: int = 0) -> Row: ...

    def max_difference(self) -> float:
        """The largest difference between what was served and what is recomputed."""
        ...


class AttentionLook:
    """One forward of an `Attention`: its inputs, and what can be worked out from them.

    Keys and values that came out of a cache or a memory are kept as they were seen, not copied: look before a cache
    is cropped.
    """

    def __init__(
        self,
        name: str,
        module: Attention,
        x: Tensor,
        served: Tensor,
        *,
        mask: Mask = EVERYTHING,
        tables: Tables | None = None,
        keys_values: tuple[Tensor, Tensor] | None = None,
        value_embeds: Tensor | None = None,
    ) -> None:
        self.name, self.module, self.x, self.served = name, module, x, served
        self.mask, self.tables = block_diagonal(mask, x.device), tables
        self._keys_values, self._value_embeds = keys_values, value_embeds

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.x.size(0), self.module.heads, self.x.size(1), self.keys_values[0].size(2)

    @property
    def keys_values(self) -> tuple[Tensor, Tensor]:
        """(B, H_kv, S, D) of both."""
        if self._keys_values is None:
            with torch.no_grad():
                self._keys_values = self.module.keys_values(self.x, self.tables, self._value_embeds)
        return self._keys_values

    @torch.no_grad()
    def weights(self, start: int, stop: int, *, batch: int = 0, head: int | None = None) -> Tensor:
        """Weights (H, n, S) of the queries start .. stop - 1, float32; (1, n, S) of one head."""
        return self._hidden(start, stop, batch, head).softmax(dim=-1)[0]

    @torch.no_grad()
    def row(self, head: int, query: int, *, batch: int = 0) -> Row:
        """All steps for one head and query. RequestError for a place that is not there."""
        _check_place(self.shape, batch, head, query)
        module, group = self.module, head // (self.module.heads // self.module.kv_heads)
        key, value = (x[batch : batch + 1, group : group + 1].float() for x in self.keys_values)
        vector = self._queries(query, query + 1, batch)[:, head : head + 1]
        mask = self._mask(query, query + 1, batch, head)
        capped = scores(vector, key, scale=module.scale, softcap=module.softcap)
        hidden = masked(capped, mask)
        weights = hidden.softmax(dim=-1)
        output = (weights @ value)[0, 0, 0]
        part = module.o_proj.weight[:, head * module.head_dim : (head + 1) * module.head_dim]
        return Row(
            query=vector[0, 0, 0],
            keys=key[0, 0],
            products=scores(vector, key, scale=1.0)[0, 0, 0],
            scaled=scores(vector, key, scale=module.scale)[0, 0, 0],
            capped=capped[0, 0, 0],
            masked=hidden[0, 0, 0],
            weights=weights[0, 0, 0],
            value_norms=weights[0, 0, 0] * value[0, 0].norm(dim=-1),
            head_output=output,
            contribution=part.float() @ output,
        )

    @torch.no_grad()
    def max_difference(self) -> float:
        """The largest difference between the layer's output as served and as recomputed, over the whole batch."""
        worst = 0.0
        for batch in range(self.x.size(0)):
            value = self.keys_values[1][batch].float()
            for start, stop in chunks(self):
                weights = self.weights(start, stop, batch=batch)
                grouped = weights.unflatten(0, (value.size(0), -1)).flatten(1, 2) @ value
                heads = grouped.unflatten(1, (-1, stop - start)).flatten(0, 1)
                out = self.module.o_proj(heads.transpose(0, 1).flatten(1).to(self.served.dtype))
                worst = max(worst, float((out - self.served[batch, start:stop]).abs().max()))
        return worst

    def _queries(self, start: int, stop: int, batch: int) -> Tensor:
        tables = self.tables
        if tables is not None:
            tables = (tables[0][start:stop], tables[1][start:stop])
        return self.module.queries(self.x[batch : batch + 1, start:stop], tables).float()

    def _hidden(self, start: int, stop: int, batch: int, head: int | None) -> Tensor:
        """Masked scores (1, H, n, S), float32."""
        query, key = self._queries(start, stop, batch), self.keys_values[0][batch : batch + 1].float()
        if head is not None:
            group = head // (self.module.heads // self.module.kv_heads)
            query, key = query[:, head : head + 1], key[:, group : group + 1]
        found = scores(query, key, scale=self.module.scale, softcap=self.module.softcap)
        return masked(found, self._mask(start, stop, batch, head))

    def _mask(self, start: int, stop: int, batch: int, head: int | None) -> Mask:
        """The mask of some rows, (1, 1 or H, n or 1, S)."""
        tensor = self.mask.tensor
        if self.mask.causal:
            queries = torch.arange(start, stop, device=self.x.device)[:, None]
            return Mask(torch.arange(self.shape[3], device=self.x.device)[None, :] <= queries)
        if tensor is None:
            return EVERYTHING
        tensor = tensor[(None,) * (4 - tensor.ndim)]
        chosen = (slice(batch, batch + 1), slice(None) if head is None else slice(head, head + 1), slice(start, stop))
        # A dimension of one stands for all.
        parts = tuple(part if size > 1 else slice(None) for part, size in zip(chosen, tensor.shape[:3], strict=True))
        return Mask(tensor[parts])


class SourceLook:
    """The steps of a recurrent decoder over one source, as `SourceAttention` weighted it: one head, T steps."""

    def __init__(self, name: str, module: SourceAttention, source: Source) -> None:
        self.name, self.module, self.source = name, module, source
        self.hidden: list[Tensor] = []
        self.served: list[Tensor] = []

    @property
    def additive(self) -> bool:
        """Whether scores are those of a small net, not products."""
        return self.module.score is not None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.source.keys.size(0), 1, len(self.hidden), self.source.keys.size(1)

    @torch.no_grad()
    def weights(self, start: int, stop: int, *, batch: int = 0, head: int | None = None) -> Tensor:
        """Weights (1, n, S) of the steps start .. stop - 1, recomputed."""
        rows = [self._masked(step, batch).softmax(dim=-1) for step in range(start, stop)]
        return torch.stack(rows)[None]

    @torch.no_grad()
    def row(self, head: int, query: int, *, batch: int = 0) -> Row:
        """All steps of one target step. RequestError for a place that is not there."""
        _check_place(self.shape, batch, head, query)
        found = self._scores(query, batch)
        hidden = self._masked(query, batch)
        weights, states = hidden.softmax(dim=-1), self.source.states[batch].float()
        return Row(
            query=self.hidden[query][batch].float(),
            keys=self.source.keys[batch].float(),
            products=found,
            scaled=found,
            capped=found,
            masked=hidden,
            weights=weights,
            value_norms=weights * states.norm(dim=-1),
            head_output=weights @ states,
            contribution=None,
        )

    def max_difference(self) -> float:
        """The largest difference between the weights as served and as recomputed."""
        served = torch.stack(self.served, dim=1).float()
        again = torch.cat([self.weights(0, len(self.hidden), batch=n) for n in range(served.size(0))])
        return float((served - again).abs().max())

    def _scores(self, step: int, batch: int) -> Tensor:
        return self.module.scores(self.hidden[step], self.source)[batch].float()

    def _masked(self, step: int, batch: int) -> Tensor:
        return self._scores(step, batch).masked_fill(~self.source.mask[batch], -torch.inf)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A head's weights as a picture: (R, C) means and maxima of blocks; one cell a weight where both blocks are 1."""

    means: Tensor
    maxima: Tensor
    row_block: int
    column_block: int

    @property
    def exact(self) -> bool:
        return self.row_block == self.column_block == 1


def grid(look: Look, head: int, *, batch: int = 0, limit: int = GRID_LIMIT) -> Grid:
    """All queries and keys of one head in at most `limit` rows and columns."""
    _, _, length, total = look.shape
    _check_place(look.shape, batch, head, 0)
    across, down = -(-total // limit), -(-length // limit)
    means, maxima = [], []
    for start in range(0, length, down):
        weights = look.weights(start, min(start + down, length), batch=batch, head=head)[0]
        padded = F.pad(weights, (0, -total % across)).unflatten(1, (-1, across))
        sizes = torch.full((padded.size(1),), across, device=weights.device)
        sizes[-1] -= -total % across
        means.append(padded.sum(dim=(0, 2)) / (sizes * weights.size(0)))
        maxima.append(padded.amax(dim=(0, 2)))
    return Grid(means=torch.stack(means), maxima=torch.stack(maxima), row_block=down, column_block=across)


def chunks(look: Look) -> Iterator[tuple[int, int]]:
    """(start, stop) of queries such that all heads' scores of a chunk stay within CHUNK_NUMBERS."""
    _, heads, length, total = look.shape
    step = max(1, CHUNK_NUMBERS // (heads * total))
    for start in range(0, length, step):
        yield start, min(start + step, length)


def stacks(model: nn.Module) -> dict[str, list[str]]:
    """The attentions of a model by the stack that they belong to, in order.

    A stack is called after its modules without their numbers: "model.layers.self_attn" of a decoder,
    "encoder.layers.self_attn", "decoder.layers.self_attn" and "decoder.layers.cross_attn" of an encoder-decoder.
    """
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Attention | SourceAttention):
            found.setdefault(re.sub(r"\.\d+(?=\.|$)", "", name), []).append(name)
    return found


@contextmanager
def capture(model: nn.Module, names: Collection[str] | None = None) -> Iterator[dict[str, Look]]:
    """Keep what the named attentions see, by name; None: all of them. The last forward of each counts.

    Keeps each one's input and output (B, T, E), no more. ConfigError for a name that is no attention of the model.
    """
    known = {name for stack in stacks(model).values() for name in stack}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"the model has no attention {name!r:.80}", hint=nearest(name, known))
    looks: dict[str, Look] = {}
    handles = []
    try:
        for name in known if names is None else names:
            module = model.get_submodule(name)
            if isinstance(module, SourceAttention):
                handles.append(module.register_forward_hook(partial(_keep_step, looks, name)))
            else:
                handles.append(module.register_forward_pre_hook(_listen, with_kwargs=True))
                handles.append(module.register_forward_hook(partial(_keep, looks, name), with_kwargs=True))
        yield looks
    finally:
        for handle in handles:
            handle.remove()


class _Listening:
    """A cache that keeps what it last gave back."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.last: tuple[Tensor, Tensor] | None = None

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.last = self._cache.write(layer, keys, values)
        return self.last


def _listen(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, Any] | None:
    if options.get("cache") is None:
        return None
    return inputs, {**options, "cache": _Listening(options["cache"])}


def _keep(
    looks: dict[str, Look], name: str, module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], out: Tensor
) -> None:
    assert isinstance(module, Attention)
    cache = options.get("cache")
    looks[name] = AttentionLook(
        name,
        module,
        inputs[0].detach(),
        out.detach(),
        mask=options.get("mask", EVERYTHING),
        tables=options.get("tables"),
        keys_values=options.get("memory") or (cache.last if isinstance(cache, _Listening) else None),
        value_embeds=options.get("value_embeds"),
    )


def _keep_step(looks: dict[str, Look], name: str, module: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> None:
    hidden, source = inputs
    look = looks.get(name)
    assert isinstance(module, SourceAttention)
    if not isinstance(look, SourceLook) or look.source is not source:
        look = looks[name] = SourceLook(name, module, source)
    look.hidden.append(hidden.detach())
    look.served.append(out.detach())


def _check_place(shape: tuple[int, int, int, int], batch: int, head: int, query: int) -> None:
    for word, value, size in (("row", batch, shape[0]), ("head", head, shape[1]), ("query", query, shape[2])):
        if not 0 <= value < size:
            raise RequestError(f"there is no {word} {value}", hint=f"from 0 to {size - 1:,}", param=word)
