"""The key/value cache of a decoder: preallocated, written in place, as long as the longest sequence it may hold.

This module does not know attention or requests; every row of a batch has the same length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.models.config import ModelConfig


class KVCache:
    """Keys and values (layers, B, H_kv, S, D); `length` positions are filled."""

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_length: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (config.num_hidden_layers, batch_size, config.num_key_value_heads, max_length, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.max_length = max_length
        self.length = 0
        looks_back = config.looks_back
        self._ids = torch.zeros(batch_size, max_length, dtype=torch.int64, device=device) if looks_back else None

    @property
    def num_bytes(self) -> int:
        """2 L H_kv S D times the bytes of one number, times the batch; and ids, if they are kept."""
        return self.keys.nbytes + self.values.nbytes + (0 if self._ids is None else self._ids.nbytes)

    def reserve(self, num_tokens: int) -> None:
        """RequestError unless `num_tokens` more positions fit."""
        if self.length + num_tokens > self.max_length:
            raise RequestError(
                f"{self.length + num_tokens:,} positions do not fit a cache of {self.max_length:,}",
                code="context_length_exceeded",
            )

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values (B, H_kv, T, D) after the filled part; returns all of both so far.

        `length` stays: the decoder advances it once all layers have written. ValueError if the batch is not the
        cache's: one row would be stored in all.
        """
        if keys.size(0) != self.keys.size(1):
            raise ValueError(f"a batch of {keys.size(0)} does not fit a cache for {self.keys.size(1)}")
        end = self.length + keys.size(2)
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def previous(self, input_ids: Tensor, none: int) -> Tensor:
        """The id before each of (B, T) new ones, which are kept; `none` where a text begins. For a decoder whose
        config says that it looks back."""
        assert self._ids is not None
        start, end = self.length, self.length + input_ids.size(1)
        self._ids[:, start:end] = input_ids
        if start:
            return self._ids[:, start - 1 : end - 1]
        return torch.cat((torch.full_like(input_ids[:, :1], none), input_ids[:, :-1]), dim=1)

    def crop(self, length: int) -> None:
        """Forget every position from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot crop a cache of {self.length} positions to {length}")
        self.length = length

    def reset(self) -> None:
        self.length = 0
