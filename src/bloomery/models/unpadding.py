"""Rows without their padding: the texts of a batch one after the other in a single row, and back.

What ModernBERT (Warner et al., arXiv 2412.13663) calls unpadding. Attention sees each text by itself (`Mask.lengths`);
everything else is computed token by token anyway. Shapes: B rows, T length, N tokens that are no padding, E width. This
module does not know encoders.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Where the tokens of a padded batch are."""

    lengths: tuple[int, ...]
    """Tokens of each row, B numbers above 0."""
    places: Tensor
    """(N): a token's number in the flattened batch."""
    positions: Tensor
    """(N): its number in its row."""
    shape: tuple[int, int]
    """(B, T)."""

    @classmethod
    def of(cls, attention_mask: Tensor) -> Rows | None:
        """From a mask (B, T) that is 0 at padding; None if a row is empty or has padding before a token."""
        lengths = attention_mask.sum(dim=1)
        places = attention_mask.flatten().nonzero().flatten()
        positions = places % attention_mask.size(1)
        # Padding that is at the end alone leaves the last token of a row at the place that the length says.
        last = torch.cumsum(lengths, dim=0) - 1
        if int(lengths.min()) < 1 or not torch.equal(positions[last], lengths - 1):
            return None
        return cls(tuple(lengths.tolist()), places, positions, (attention_mask.size(0), attention_mask.size(1)))

    def pack(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (1, N, E)."""
        return x.flatten(0, 1)[self.places][None]

    def unpack(self, x: Tensor) -> Tensor:
        """(1, N, E) -> (B, T, E), zeros at padding."""
        out = x.new_zeros(self.shape[0] * self.shape[1], x.size(-1))
        return out.index_copy(0, self.places, x[0]).unflatten(0, self.shape)


def pays(rows: Rows, device: torch.device) -> bool:
    """Whether leaving padding out is faster: on a CPU where a fifth of the batch or more is padding.

    What is saved is about the share of padding; what it costs is a call of attention for each length. On a GPU those
    calls, and the wait for the lengths, cost more. `benchmarks/bench_attention.py` measures it.
    """
    padded = rows.shape[0] * rows.shape[1]
    return device.type == "cpu" and len(rows.places) * 5 <= padded * 4
