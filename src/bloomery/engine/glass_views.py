"""What a glass box shows: plain frozen data, ready for JSON. No tensors; this module does not know how it is made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from bloomery.engine.language_model import NextToken


class View:
    """Any of them, as plain dictionaries, lists and numbers."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class TokenAt:
    """A token in its place; `text` is how the vocabulary has it, a leading space included."""

    index: int
    token_id: int
    text: str


@dataclass(frozen=True, kw_only=True)
class KeyRow:
    """One key as the chosen query sees it."""

    index: int
    token_id: int
    text: str
    product: float
    """q.k, or an additive score"""
    scaled: float
    capped: float
    """After the soft cap; as `scaled` in a model without one."""
    masked: float | None
    """After bias and mask; None: hidden."""
    weight: float
    value_norm: float
    """|weight times value|"""
    vector: tuple[float, ...] | None
    """The key itself, if it was asked for."""


@dataclass(frozen=True, kw_only=True)
class HeadAt:
    """Where one head looks from the chosen query."""

    head: int
    entropy: float
    """Nats."""
    key: int
    """Index of the key with the largest weight."""
    weight: float


@dataclass(frozen=True, kw_only=True)
class GridView:
    """All queries (rows) and keys of the head; a cell is a block of weights, of one where both block sizes are 1."""

    means: tuple[tuple[float, ...], ...]
    maxima: tuple[tuple[float, ...], ...]
    row_block: int
    column_block: int


@dataclass(frozen=True, kw_only=True)
class AttentionView(View):
    """One head's attention, from the chosen query in full."""

    model: str
    stack: str
    """Which of the model's attentions: "model.layers.self_attn", "decoder.layers.cross_attn", ..."""
    layer: int
    layers: int
    head: int
    heads: int
    key_head: int
    """The head of keys and values that this query head shares."""
    key_heads: int
    head_dim: int
    scale: float
    softcap: float | None
    queries: tuple[TokenAt, ...]
    query: TokenAt
    query_vector: tuple[float, ...]
    keys: tuple[KeyRow, ...]
    head_output: tuple[float, ...]
    contribution_norm: float | None
    """Length of what this head adds to the layer's output at the query; None where heads are not added up."""
    output_norm: float
    """Length of the layer's output there."""
    all_heads: tuple[HeadAt, ...]
    grid: GridView
    max_difference: float
    """Between the output as served and as recomputed, over the whole layer."""
    largest_served: float
    """Largest number of that output, to read the difference by."""
    additive: bool = False
    """Scores are those of a small net: `product` is the score, and there is no scale."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One place whose token is asked for: the next one, or a blank."""

    index: int
    candidates: tuple[NextToken, ...]


@dataclass(frozen=True, kw_only=True)
class TokensView(View):
    """Distributions over tokens, natural log-probabilities before and after the filters."""

    model: str
    tokens: tuple[TokenAt, ...]
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A token with its natural log-probability."""

    token_id: int
    text: str
    logprob: float


@dataclass(frozen=True, kw_only=True)
class LensLayer:
    """What the model would say after a layer; layer -1 is before the first one."""

    layer: int
    entropy: float
    """Nats, of the whole distribution."""
    answer_rank: int
    """Rank here (1: first) of the token that the last layer holds most probable."""
    answer_logprob: float
    guesses: tuple[Guess, ...]


@dataclass(frozen=True, kw_only=True)
class LensView(View):
    """The logit lens at one position."""

    model: str
    tokens: tuple[TokenAt, ...]
    position: TokenAt
    layers: tuple[LensLayer, ...]


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A token, its cosine to the chosen one, and its place on a plane (principal components of those shown)."""

    token_id: int
    text: str
    cosine: float
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class NeighboursView(View):
    """The chosen token, first among them, and its nearest in the embedding."""

    model: str
    token_id: int
    text: str
    vector: tuple[float, ...]
    tokens: tuple[Neighbour, ...]


@dataclass(frozen=True, kw_only=True)
class HeadsView(View):
    """Numbers of every head, (layers, heads)."""

    model: str
    stack: str
    tokens: tuple[TokenAt, ...]
    entropy: tuple[tuple[float, ...], ...]
    """Mean over queries, nats."""
    previous: tuple[tuple[float, ...], ...]
    """Mean weight on the token before."""
    induction: tuple[tuple[float, ...], ...] | None
    """Induction scores on random tokens; None for a model that is no decoder or whose context is too short."""
