"""Bigram embedding: a vector for each pair of neighbouring tokens, in a table that pairs share by their hash.

As in modded-nanogpt (github.com/KellerJordan/modded-nanogpt, 2026), and after the hashed n-grams of Joulin et al.
(arXiv 1607.01759). Shapes: B batch, T length, E hidden_size. This module does not know where tokens before come from.
"""

from __future__ import annotations

from torch import Tensor, nn

# Odd 32-bit constants of MurmurHash3 and xxHash. Ids have at most 23 bits: no product leaves 63.
_PREVIOUS, _CURRENT = 0x85EBCA6B, 0x9E3779B1


def pair_rows(previous: Tensor, current: Tensor, num_rows: int) -> Tensor:
    """The row, 0 to num_rows - 1, of each pair of ids; always the same: a trained table depends on it."""
    mixed = (previous.long() * _PREVIOUS) ^ (current.long() * _CURRENT)
    return (mixed ^ (mixed >> 15)) % num_rows


class BigramEmbedding(nn.Module):
    """`num_rows` vectors."""

    def __init__(self, num_rows: int, hidden_size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_rows, hidden_size)

    def forward(self, input_ids: Tensor, previous: Tensor) -> Tensor:
        """Ids and those before each, both (B, T) -> (B, T, E). What is before a text has an id of its own."""
        return self.table(pair_rows(previous, input_ids, self.table.num_embeddings))
