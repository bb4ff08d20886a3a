"""Adapted: a decoder whose rows may each have an adapter of their own, and the same decoder with one merged in.

The base's product is computed once for all rows; what the adapters add is put on top by hooks, so that names, packed
layers and files stay as they are. Rows of several adapters are one pair of products, with the adapters' matrices one
under the other and each row's own part kept (the idea of batched adapters: Chen et al., arXiv 2310.18547; Sheng et al.,
arXiv 2311.03285): three calls a layer however many adapters there are, each matrix read once. What a row gets does not
depend on the others' adapters. Shapes: N rows, R ranks of all adapters together. This module does not know requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, RequestError
from bloomery.models.adapter import EMBEDDING, HEAD, Adapter, LowRank, linear_modules, weight_of
from bloomery.models.decoder import Decoder
from bloomery.models.feed_forward import MixtureOfExperts
from bloomery.models.packing import bias_of

Run = tuple[Adapter | None, int]
"""An adapter (None: the base) and how many neighbouring rows have it."""


class _Here(threading.local):
    """What this thread computes now: other threads may run other models, or this one without adapters."""

    rows: _Rows | None = None


_HERE = _Here()


@contextmanager
def adapted_rows(runs: Sequence[Run]) -> Iterator[None]:
    """Inside, forwards of this thread over as many rows as `runs` say, in their order, have those adapters. One run
    stands for any number of rows."""
    before, used = _HERE.rows, {id(adapter): adapter for adapter, _ in runs if adapter is not None}
    _HERE.rows = _Rows(list(used.values()), runs) if used else None
    try:
        yield
    finally:
        _HERE.rows = before


class _Rows:
    """The adapters of one forward, and whose each row is. `slots` (N,) is None where all rows have the only one."""

    def __init__(self, used: list[Adapter], runs: Sequence[Run]) -> None:
        self.adapters = sorted(used, key=lambda adapter: adapter.number)
        self.key = tuple(adapter.number for adapter in self.adapters)
        self.slots: Tensor | None = None
        if len(used) > 1 or any(adapter is None for adapter, _ in runs):
            places = {id(adapter): place for place, adapter in enumerate(self.adapters)}
            numbers = [places.get(id(adapter), len(used)) for adapter, _ in runs]
            self.slots = torch.repeat_interleave(torch.tensor(numbers), torch.tensor([count for _, count in runs]))
            self.slots = self.slots.to(next(iter(used[0].layers.values())).down.device)
        self.hidden: dict[tuple[Any, ...], Tensor] = {}
        """Which columns of the stacked products are not a row's own, by the columns' owners."""

    @contextmanager
    def narrowed(self, rows: Tensor) -> Iterator[None]:
        """Inside, a forward over these rows only (the tokens that an expert is given)."""
        slots, hidden = self.slots, self.hidden
        if slots is not None:
            self.slots, self.hidden = slots[rows], {}
        try:
            yield
        finally:
            self.slots, self.hidden = slots, hidden


class _Stack:
    """The adapters of a step at one layer, one under the other."""

    def __init__(self, layers: Sequence[tuple[int, LowRank]], places: int) -> None:
        """`layers`: (place of the adapter, what it does), of `places` adapters; rows of the base have the place after
        the last."""
        self.down = torch.cat([one.down for _, one in layers])
        self.up = torch.cat([one.up for _, one in layers], dim=1)
        ranks = [one.down.size(0) for _, one in layers]
        self.owners = tuple((place, rank) for (place, _), rank in zip(layers, ranks, strict=True))
        owner = torch.tensor([place for place, _ in layers]).repeat_interleave(torch.tensor(ranks))
        self.owner = owner.to(self.down.device)
        self.gain: Tensor | None = None
        if any(one.gain is not None for _, one in layers):
            self.gain = self.up.new_zeros(places + 1, self.up.size(0))
            for place, one in layers:
                if one.gain is not None:
                    self.gain[place] = one.gain


class AdaptedDecoder:
    """Puts what adapters add into a decoder's forwards, and merges one into its weights. Not thread-safe: whoever runs
    the model holds it; see `adapted_rows` for the forwards."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.merged: Adapter | None = None
        self._kept: dict[str, nn.Parameter] = {}
        self._hooked: set[str] = set()
        self._stacks: tuple[tuple[int, ...], dict[str, _Stack | None]] = ((), {})
        """Those of the adapters that were computed together last."""
        for module in decoder.modules():
            if isinstance(module, MixtureOfExperts):
                module.choosing = _choosing

    def hook(self, adapter: Adapter) -> None:
        """Make the layers ready that an adapter changes; nothing else is computed with them before `adapted_rows`."""
        modules = linear_modules(self.decoder)
        for path in adapter.layers.keys() - self._hooked:
            if path == HEAD:
                self.decoder.on_logits = self._added(HEAD, None)
            else:
                add = self._added(path, modules[path])
                modules[path].register_forward_hook(lambda _, args, out, add=add: add(args[0], out))
            self._hooked.add(path)

    def forget(self) -> None:
        """Drop what was put together of adapters that are gone. May be called in the middle of a step."""
        self._stacks = ((), {})

    def _added(self, path: str, module: nn.Module | None) -> Callable[[Tensor, Tensor], Tensor]:
        bias = None if module is None else bias_of(module)

        def add(x: Tensor, out: Tensor) -> Tensor:
            rows = _HERE.rows
            if rows is None:
                return out
            if self.merged is not None:  # asked for before the merge, computed after it
                raise RequestError(f"{self.merged.name} is merged into the weights", hint="unmerge it first")
            if rows.slots is None:
                layer = rows.adapters[0].layers.get(path)
                return out if layer is None else out + _only(layer, x, out, bias)
            stack = self._stack(path, rows)
            return out if stack is None else out + _several(stack, rows, x, out, bias)

        return add

    def _stack(self, path: str, rows: _Rows) -> _Stack | None:
        """Kept while the same adapters are computed: decoding asks step after step."""
        key, stacks = self._stacks
        if key != rows.key:
            key, stacks = self._stacks = (rows.key, {})
        if path not in stacks:
            layers = [(n, one.layers[path]) for n, one in enumerate(rows.adapters) if path in one.layers]
            stacks[path] = _Stack(layers, len(rows.adapters)) if layers else None
        return stacks[path]

    @torch.no_grad()
    def merge(self, adapter: Adapter) -> None:
        """Write an adapter into the weights: no step costs more then. The weights that were there are kept, so that
        `unmerge` brings them back bit by bit. ConfigError if one is merged, for packed weights, and for a head that is
        the embedding."""
        if self.merged is not None:
            raise ConfigError(f"{self.merged.name} is merged already", hint="unmerge it first")
        modules = linear_modules(self.decoder)
        chosen: dict[str, nn.Linear | nn.Embedding] = {}
        for path in adapter.layers:
            module = self.decoder.lm_head if path == HEAD else modules[path]
            if path in (HEAD, EMBEDDING) and self.decoder.lm_head is None:
                raise ConfigError("the output head is the embedding: a merge into one would change the other too")
            if type(module) not in (nn.Linear, nn.Embedding):
                raise ConfigError("packed weights take no adapter in", hint='load the model with weights="plain"')
            chosen[path] = cast(nn.Linear | nn.Embedding, module)
        kept = {path: cast(nn.Parameter, module.weight) for path, module in chosen.items()}
        try:
            for path, module in chosen.items():
                made = merged_weight(adapter.layers[path], weight_of(module))
                made = made.t().contiguous() if path == EMBEDDING else made
                module.weight = nn.Parameter(made, requires_grad=module.weight.requires_grad)
        except BaseException:  # no memory, or an interrupt: nothing is half merged
            for path, module in chosen.items():
                module.weight = kept[path]
            raise
        self._kept = kept
        self.merged = adapter

    def unmerge(self) -> Adapter:
        """The weights are those of before, the very same. ConfigError if none is merged."""
        if self.merged is None:
            raise ConfigError("no adapter is merged")
        modules = linear_modules(self.decoder)
        for path, weight in self._kept.items():
            module = self.decoder.lm_head if path == HEAD else modules[path]
            module.weight = weight  # type: ignore[union-attr, assignment]
        adapter, self.merged, self._kept = self.merged, None, {}
        return adapter


def merged_weight(layer: LowRank, weight: Tensor) -> Tensor:
    """(O, I) of the base -> with the adapter in it, computed in float32, in the same type."""
    base = weight.float()
    if layer.gain is not None:
        base = base * (1 + layer.gain.float())[:, None]
    return (base + layer.up.float() @ layer.down.float()).to(weight.dtype)


def _choosing(rows: Tensor) -> Any:
    here = _HERE.rows
    return _nothing() if here is None else here.narrowed(rows)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _inner(x: Tensor, down: Tensor) -> Tensor:
    """x (..., I) -> (..., R); token ids (...) stand for a one in their place."""
    if x.is_floating_point():
        return F.linear(x.to(down.dtype), down)
    return F.embedding(x, down.t())


def _only(layer: LowRank, x: Tensor, out: Tensor, bias: Tensor | None) -> Tensor:
    added = F.linear(_inner(x, layer.down), layer.up)
    return added if layer.gain is None else added + layer.gain * (out if bias is None else out - bias)


def _several(stack: _Stack, rows: _Rows, x: Tensor, out: Tensor, bias: Tensor | None) -> Tensor:
    slots = rows.slots
    assert slots is not None
    hidden = rows.hidden.get(stack.owners)
    if hidden is None:
        hidden = rows.hidden[stack.owners] = slots[:, None] != stack.owner[None, :]
    # Filled, not multiplied: a sum that overflowed for another's adapter must not become this row's.
    inner = _inner(x, stack.down).view(len(slots), -1).masked_fill(hidden, 0.0)
    added = F.linear(inner, stack.up).view_as(out)
    if stack.gain is None:
        return added
    return added + stack.gain[slots].view_as(out) * (out if bias is None else out - bias)
