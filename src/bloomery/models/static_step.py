"""StaticStep: one decode step of a fixed number of rows, in tensors of fixed shapes that are filled anew each time.

`PagedStep` asks for as many operators as there are sequences, of ever new shapes: little for a CPU, much for a GPU that
waits for them. Here each row's keys are gathered by an index of `length` positions and what lies behind its own is
masked, so that the same operators with the same addresses do every step: what a CUDA graph or a compiler wants. It
reads and writes the same memory as `PagedStep` does. Shapes: N rows (one new token each), S = `length`, H heads, H_kv
key heads, D head_dim. This module does not know graphs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bloomery.models.attention import Mask, RaggedCache, attend
from bloomery.models.config import ModelConfig
from bloomery.models.paged import PagedMemory, Rows


def why_not(config: ModelConfig) -> str:
    """Why a decoder has no static steps; "" if it has them."""
    if any(config.is_sparse(layer) for layer in range(config.num_hidden_layers)):
        return "its experts are given as many rows as choose them"
    if config.family.positions == "alibi":
        return "its scores fall with distance (ALiBi)"
    if config.looks_back:
        return "its embeddings depend on the token before"
    if config.reach(1) != config.reach(config.context_length):
        return "its rotary frequencies depend on a text's length"
    return ""


class StaticStep(RaggedCache):
    """See the module. `ids` (1, N) are the new tokens; `fill` sets everything for the next step."""

    def __init__(self, memory: PagedMemory, config: ModelConfig, batch: int, length: int, device: torch.device) -> None:
        self.memory, self.batch, self.length = memory, batch, length
        self.ids = torch.zeros(1, batch, dtype=torch.int64, device=device)
        self.positions = torch.zeros(batch, dtype=torch.int64, device=device)
        # Tables of all positions from the first step on: longer ones later would lie elsewhere.
        self.longest = config.context_length
        self.reaches = torch.full((batch,), config.reach(config.context_length))
        self._slots = torch.zeros(batch, dtype=torch.int64, device=device)
        self._index = torch.zeros(batch, length, dtype=torch.int64, device=device)
        self._places = torch.arange(length, device=device)

    def fill(self, ids: Sequence[int], rows: Sequence[Rows]) -> None:
        """The next step's tokens, one for each of `rows`, at most `batch`. Rows that are left over repeat the last:
        they write what it writes, where it writes it."""
        assert 0 < len(rows) <= self.batch and all(one.count == 1 for one in rows)
        index = np.zeros((self.batch, self.length), dtype=np.int64)
        for number, one in enumerate(rows):
            begin = 0
            for first, length in one.runs:
                index[number, begin : begin + length] = np.arange(first, first + length)
                begin += length
        starts = np.array([one.start for one in rows] + [rows[-1].start] * (self.batch - len(rows)))
        index[len(rows) :] = index[len(rows) - 1]
        tokens = np.array([*ids, *[ids[-1]] * (self.batch - len(rows))], dtype=np.int64)
        self._index.copy_(torch.from_numpy(index))
        self.positions.copy_(torch.from_numpy(starts))
        self._slots.copy_(torch.from_numpy(index[np.arange(self.batch), starts]))
        self.ids.copy_(torch.from_numpy(tokens)[None])

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
        self.memory.write(layer, self._slots, key, value)
        keys, values = self.memory.gather(layer, self._index, query.dtype)
        seen = self._places <= self.positions[:, None]
        if mask.window is not None:
            seen = seen & (self._places > self.positions[:, None] - mask.window)
        out = attend(
            query[0].transpose(0, 1)[:, :, None], keys, values, Mask(seen[:, None, None]), scale=scale, softcap=softcap
        )
        return out[:, :, 0].transpose(0, 1)[None]

    def previous(self, input_ids: Tensor, none: int) -> Tensor:
        raise NotImplementedError("see why_not")
