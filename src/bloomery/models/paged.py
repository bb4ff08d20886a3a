"""Paged keys and values: many sequences in one memory, and one step over all of them at once.

A step is ragged: the new tokens of several sequences lie one after the other in a single row, (1, N). Every part of a
decoder but attention treats them alike; attention reads, for each sequence, the runs of memory in which its keys lie.
A sequence in one run is read in place, one in several is put together first. Keys and values may be kept in float16
(what that cannot hold becomes the largest that it can), or as int8 with one scale for each position and head (the
largest absolute value over 127). Shapes: N new tokens of all sequences, H heads, H_kv key heads, S keys of one
sequence, D head_dim, P positions of the memory. This module does not know which sequence may have which block (see the
engine's `blocks`) nor why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.models.alibi import with_alibi
from bloomery.models.attention import EVERYTHING, Mask, RaggedCache, attend, causal_mask
from bloomery.models.config import ModelConfig

_LARGEST_HALF = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Rows:
    """One sequence's part of a step: `count` new tokens from position `start`; `runs` are [first, length] stretches
    of the memory that hold its start + count positions in order, the new ones included."""

    start: int
    count: int
    runs: Sequence[tuple[int, int]]
    reach: int = 0
    """`ModelConfig.reach` of the text, the same in each of its steps."""


class PagedMemory:
    """Keys and values of `num_positions` positions for every layer. On a CPU, memory that was never written costs
    nothing: the system gives it when it is touched."""

    def __init__(
        self,
        config: ModelConfig,
        num_positions: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        """`dtype` torch.int8 keeps scales beside. RuntimeError if there is no memory."""
        shape = (num_positions, config.num_key_value_heads, config.head_dim)
        layers = range(config.num_hidden_layers)
        self.num_positions = num_positions
        self.keys = [torch.empty(shape, dtype=dtype, device=device) for _ in layers]
        self.values = [torch.empty(shape, dtype=dtype, device=device) for _ in layers]
        self._heads = [[memory.transpose(0, 1).unsqueeze(0) for memory in both] for both in (self.keys, self.values)]
        looks_back = config.looks_back
        self.ids = torch.zeros(num_positions, dtype=torch.int64, device=device) if looks_back else None
        """The token at each position, for a decoder whose embedding of a token depends on the one before."""
        self.scales: list[tuple[Tensor, Tensor]] = []
        """Of keys and values in int8, (P, H_kv, 1) each, layer by layer; else empty."""
        if dtype == torch.int8:
            sizes = (*shape[:2], 1)
            self.scales = [(torch.empty(sizes, device=device), torch.empty(sizes, device=device)) for _ in layers]

    @staticmethod
    def bytes_per_position(config: ModelConfig, dtype: torch.dtype) -> int:
        """2 L H_kv D times the bytes of one number, and the scales of int8."""
        number = config.head_dim * dtype.itemsize + (4 if dtype == torch.int8 else 0)
        return 2 * config.num_hidden_layers * config.num_key_value_heads * number

    def write(self, layer: int, slots: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store keys and values (1, H_kv, N, D) at positions `slots` (N,)."""
        for number, (memory, new) in enumerate(((self.keys, keys), (self.values, values))):
            rows = new[0].transpose(0, 1)
            if self.scales:
                scale = rows.abs().amax(dim=-1, keepdim=True).float().clamp_min(1e-12) / 127
                self.scales[layer][number].index_copy_(0, slots, scale)
                rows = (rows / scale).round().to(torch.int8)
            elif memory[layer].dtype == torch.float16:
                rows = rows.float().clamp(-_LARGEST_HALF, _LARGEST_HALF)  # bfloat16 has no such number
            memory[layer].index_copy_(0, slots, rows.to(memory[layer].dtype))

    def read(self, layer: int, runs: Sequence[tuple[int, int]], skip: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values (1, H_kv, S, D) of a sequence, in order, its first `skip` positions left out."""
        if len(runs) == 1 and not self.scales and self.keys[layer].dtype == dtype:  # in place: a view, no more
            first, length = runs[0]
            keys, values = self._heads[0][layer], self._heads[1][layer]
            return keys.narrow(2, first + skip, length - skip), values.narrow(2, first + skip, length - skip)
        wanted = []
        for first, length in runs:
            if skip < length:
                wanted.append((first + skip, length - skip))
            skip = max(0, skip - length)
        return self._part(layer, 0, wanted, dtype), self._part(layer, 1, wanted, dtype)

    def _part(self, layer: int, number: int, runs: Sequence[tuple[int, int]], dtype: torch.dtype) -> Tensor:
        memory = (self.keys, self.values)[number][layer]
        parts = [memory.narrow(0, first, length) for first, length in runs]
        if self.scales:
            scales = self.scales[layer][number]
            parts = [part * scales.narrow(0, *run) for part, run in zip(parts, runs, strict=True)]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole.to(dtype).transpose(0, 1).unsqueeze(0)

    def gather(self, layer: int, index: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values (N, H_kv, S, D) at the positions `index` (N, S)."""
        found = []
        for number, memory in enumerate((self.keys[layer], self.values[layer])):
            part = memory[index]
            if self.scales:
                part = part * self.scales[layer][number][index]
            found.append(part.to(dtype).transpose(1, 2))
        return found[0], found[1]

    def copy(self, source: slice, target: slice) -> None:
        """Copy positions in every layer."""
        pairs = [*self.keys, *self.values, *(one for both in self.scales for one in both)]
        for tensor in pairs:
            tensor[target] = tensor[source]
        if self.ids is not None:
            self.ids[target] = self.ids[source]


class PagedStep(RaggedCache):
    """One step of several sequences; see the module. To be used for one forward."""

    def __init__(
        self,
        memory: PagedMemory,
        rows: Sequence[Rows],
        device: torch.device | str = "cpu",
        between: Callable[[], None] | None = None,
    ) -> None:
        """`between` is called after each layer but the last: other steps may be made there, of other positions."""
        self.memory, self.rows, self._between = memory, list(rows), between
        places = [p for one in rows for p in range(one.start, one.start + one.count)]
        slots = [slot for one in rows for slot in _slots(one, one.start, one.start + one.count)]
        self.positions = torch.tensor(places, device=device)
        self.longest = max((one.start + one.count for one in rows), default=0)
        self.reaches = torch.tensor([one.reach for one in rows for _ in range(one.count)])
        self._slots = torch.tensor(slots, device=device)
        self._masks: dict[tuple[int, int | None], Mask] = {}

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
        """(1, H, N, D) of queries, (1, H_kv, N, D) of new keys and values, which are stored -> (1, H, N, D)."""
        if self._between is not None and layer:
            self._between()
        self.memory.write(layer, self._slots, key, value)
        parts, begin = [], 0
        for number, one in enumerate(self.rows):
            mine = query if one.count == query.size(2) else query.narrow(2, begin, one.count)
            begin += one.count
            # The first new token sees the farthest back; what lies before its window need not be read.
            skip = 0 if mask.window is None else max(0, one.start + 1 - mask.window)
            keys, values = self.memory.read(layer, one.runs, skip, query.dtype)
            seen = self._mask(number, one, skip, mask)
            parts.append(attend(mine, keys, values, seen, scale=scale, softcap=softcap, backend=backend))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def previous(self, input_ids: Tensor, none: int) -> Tensor:
        """(1, N): the id before each of (1, N) new ones, which are kept; `none` where a sequence begins."""
        kept, parts = self.memory.ids, []
        assert kept is not None
        kept[self._slots] = input_ids[0]
        for one in self.rows:
            places = _slots(one, max(0, one.start - 1), one.start + one.count - 1)
            parts += [] if one.start else [kept.new_tensor([none])]
            parts.append(kept[torch.tensor(list(places), dtype=torch.int64, device=kept.device)])
        return torch.cat(parts)[None]

    def _mask(self, number: int, one: Rows, skip: int, mask: Mask) -> Mask:
        """The same for all layers of a kind."""
        if one.count == 1 and mask.slopes is None:
            return EVERYTHING
        known = self._masks.get((number, mask.window))
        if known is None:
            known = causal_mask(one.start - skip, one.count, mask.window, self.positions.device)
            if mask.slopes is not None:
                known = with_alibi(known, mask.slopes, one.start - skip, one.count)
            self._masks[number, mask.window] = known
        return known


def _slots(one: Rows, begin: int, end: int) -> Iterator[int]:
    """Where the keys of positions begin .. end - 1 are in the memory."""
    before = 0
    for first, length in one.runs:
        low, high = max(begin, before), min(end, before + length)
        yield from range(first + low - before, first + high - before)
        before += length
    assert before == one.start + one.count
