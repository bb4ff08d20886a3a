"""Recurrent encoder-decoders: GRU or LSTM, without attention, with the context at every step, with attention.

One module for three published nets: Sutskever et al., arXiv 1409.3215 (the decoder has only the encoder's last state);
Cho et al., arXiv 1406.1078 (it sees that state again at every step); Bahdanau et al., arXiv 1409.0473 (additive
attention) and Luong et al., arXiv 1508.04025 (dot). Shapes: B batch, S source length, T target length, H hidden_size, V
vocabulary. This module does not know tokenizers or losses, nor how texts are searched (see `text_decoding`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError, RequestError, nearest
from bloomery.models.naming import Names
from bloomery.models.outline import shapes_only
from bloomery.models.text_decoding import greedy
from bloomery.models.weights import load_weights, read_json, save_weights

MODEL_TYPE = "bloomery_recurrent"
_NOTHING = re.compile(r"(?!)")


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Sizes and kind of one net. Raises ConfigError for what makes no net."""

    source_vocab_size: int
    target_vocab_size: int
    cell: str = "gru"
    """"gru" or "lstm"."""
    context: str = "state"
    """How the decoder knows the source: "state" its first state only, "every_step" the encoder's last state again at
    every step, "additive" or "dot" attention over all of the encoder's states."""
    bidirectional: bool = False
    """The encoder reads both ways."""
    embedding_size: int = 256
    hidden_size: int = 512
    num_layers: int = 1
    dropout: float = 0.0
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2

    def __post_init__(self) -> None:
        if self.cell not in ("gru", "lstm"):
            raise ConfigError(f"unknown cell {self.cell!r:.40}", hint=nearest(self.cell, ("gru", "lstm")))
        kinds = ("state", "every_step", "additive", "dot")
        if self.context not in kinds:
            raise ConfigError(f"unknown context {self.context!r:.40}", hint=nearest(self.context, kinds))
        for name in ("source_vocab_size", "target_vocab_size", "embedding_size", "hidden_size", "num_layers"):
            if not 1 <= getattr(self, name) <= 1 << 22:
                raise ConfigError(f'"{name}" should be from 1 to {1 << 22:,}, not {getattr(self, name)!r}')
        if not 0 <= self.dropout < 1:
            raise ConfigError(f'"dropout" should be at least 0 and below 1, not {self.dropout!r}')
        target = self.target_vocab_size
        limits = {"pad_token_id": min(self.source_vocab_size, target), "bos_token_id": target, "eos_token_id": target}
        for name, size in limits.items():
            if not 0 <= getattr(self, name) < size:
                raise ConfigError(f'"{name}" should be from 0 to {size - 1:,}, not {getattr(self, name)!r}')

    @property
    def attends(self) -> bool:
        return self.context in ("additive", "dot")

    @property
    def source_size(self) -> int:
        """Width of one of the encoder's states."""
        return self.hidden_size * (2 if self.bidirectional else 1)


@dataclass
class Source:
    """All of the encoder's `states` (B, S, source_size), their `keys` (B, S, H), and the `mask` (B, S) of what is
    real."""

    states: Tensor
    keys: Tensor
    mask: Tensor

    def select(self, rows: Tensor) -> Source:
        """These rows of the batch, which may repeat."""
        return Source(self.states[rows], self.keys[rows], self.mask[rows])


@dataclass
class RecurrentState:
    """What a step needs: `hidden` (layers, B, H), an LSTM's `cell`, and of the source no more than the kind of context
    asks for: `context` (B, H), or `source`."""

    hidden: Tensor
    cell: Tensor | None
    context: Tensor | None = None
    source: Source | None = None

    def select(self, rows: Tensor) -> RecurrentState:
        """The state of these rows of the batch, which may repeat: what beam search reorders."""
        return RecurrentState(
            self.hidden[:, rows],
            None if self.cell is None else self.cell[:, rows],
            None if self.context is None else self.context[rows],
            None if self.source is None else self.source.select(rows),
        )


class SourceAttention(nn.Module):
    """Weights over the encoder's states for one state of the decoder, additive or dot."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        size, source = config.hidden_size, config.source_size
        additive = config.context == "additive"
        self.joint = nn.Linear(size + source, size) if additive else None
        self.score = nn.Linear(size, 1, bias=False) if additive else None
        # Dot products need states of equal width: a matrix between them where they are not (Luong's "general").
        self.between = nn.Linear(source, size, bias=False) if not additive and source != size else None

    def keys(self, states: Tensor) -> Tensor:
        """The part of the scores that is the same at every step: states (B, S, source) -> (B, S, H)."""
        if self.joint is not None:
            return F.linear(states, self.joint.weight[:, -states.size(-1) :], self.joint.bias)
        return states if self.between is None else self.between(states)

    def forward(self, hidden: Tensor, source: Source) -> Tensor:
        """hidden (B, H) -> (B, S); each row sums to one, and is 0 where the source is padding."""
        return self.scores(hidden, source).masked_fill(~source.mask, -torch.inf).softmax(dim=-1)

    def scores(self, hidden: Tensor, source: Source) -> Tensor:
        """hidden (B, H) -> (B, S), before padding is hidden."""
        if self.joint is not None and self.score is not None:
            query = F.linear(hidden, self.joint.weight[:, : hidden.size(-1)])
            return self.score(torch.tanh(query[:, None] + source.keys)).squeeze(-1)
        return torch.einsum("bsh,bh->bs", source.keys, hidden)


class RecurrentSeq2Seq(nn.Module):
    """See the module. A new one has PyTorch's usual random weights."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        hidden, embedding, context = config.hidden_size, config.embedding_size, config.context
        kind: Any = nn.GRU if config.cell == "gru" else nn.LSTM
        between = config.dropout if config.num_layers > 1 else 0.0
        self.embed_source = nn.Embedding(config.source_vocab_size, embedding)
        self.embed_target = nn.Embedding(config.target_vocab_size, embedding)
        self.encoder = kind(
            embedding, hidden, config.num_layers, batch_first=True, dropout=between, bidirectional=config.bidirectional
        )
        ends, lasts = config.num_layers * config.source_size, config.num_layers * hidden
        bridged = config.attends or config.bidirectional
        # Bahdanau's first state of the decoder; all layers at once, and for an LSTM's cell another.
        self.bridge = nn.Linear(ends, lasts) if bridged else None
        self.cell_bridge = nn.Linear(ends, lasts) if bridged and config.cell == "lstm" else None
        self.attention = SourceAttention(config) if config.attends else None
        seen = {"state": 0, "every_step": hidden}.get(context, config.source_size)
        self.decoder = kind(embedding + seen, hidden, config.num_layers, batch_first=True, dropout=between)
        # What the head sees beside the decoder's state, as published.
        beside = 0 if context == "state" else embedding + seen
        self.lm_head = nn.Linear(hidden + beside, config.target_vocab_size)
        self.dropout = nn.Dropout(config.dropout)

    @property
    def start_token_id(self) -> int:
        """What a target begins with."""
        return self.config.bos_token_id

    def source_ids(self, ids: Sequence[int]) -> list[int]:
        """A text's ids as a source: as they are."""
        return list(ids)

    def encode(self, source_ids: Tensor) -> RecurrentState:
        """(B, S) ids, padded at the end with pad_token_id -> the state before the first target."""
        mask = source_ids != self.config.pad_token_id
        lengths = mask.sum(dim=1)
        if bool((lengths == 0).any()):
            raise RequestError("a source is empty", hint="give at least one token", param="source_ids")
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            raise RequestError("a source has padding before its end", hint="pad at the end", param="source_ids")
        embedded = self.dropout(self.embed_source(source_ids))
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, last = self.encoder(packed)
        hidden, cell = last if self.config.cell == "lstm" else (last, None)
        if self.bridge is not None:
            hidden = torch.tanh(self._across(self.bridge, hidden))
        if self.cell_bridge is not None and cell is not None:
            cell = self._across(self.cell_bridge, cell)
        if self.attention is not None:
            states, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True, total_length=source_ids.size(1))
            return RecurrentState(hidden, cell, source=Source(states, self.attention.keys(states), mask))
        return RecurrentState(hidden, cell, context=hidden[-1] if self.config.context == "every_step" else None)

    def _across(self, bridge: nn.Linear, last: Tensor) -> Tensor:
        """The encoder's last states (layers * ways, B, H) -> the decoder's first (layers, B, H)."""
        ends = bridge(last.transpose(0, 1).flatten(1))
        return ends.unflatten(1, (self.config.num_layers, -1)).transpose(0, 1).contiguous()

    def _context(self, state: RecurrentState) -> tuple[Tensor | None, Tensor | None]:
        """What the next step sees of the source (B, 1, source), and the weights (B, S) that made it."""
        if self.attention is None or state.source is None:
            return None if state.context is None else state.context[:, None], None
        weights = self.attention(state.hidden[-1], state.source)
        return torch.einsum("bs,bsh->bh", weights, state.source.states)[:, None], weights

    def _read(self, state: RecurrentState, embedded: Tensor, context: Tensor | None) -> tuple[Tensor, RecurrentState]:
        """T steps of the kernel with one context: embedded (B, T, ...) -> what the head sees (B, T, ...), and the state
        after them."""
        if context is not None:
            context = context.expand(-1, embedded.size(1), -1)
        inputs = embedded if context is None else torch.cat((embedded, context), dim=-1)
        output, last = self.decoder(inputs, state.hidden if state.cell is None else (state.hidden, state.cell))
        hidden, cell = last if self.config.cell == "lstm" else (last, None)
        seen = output if context is None else torch.cat((output, context, embedded), dim=-1)
        return seen, RecurrentState(hidden, cell, state.context, state.source)

    def step(self, state: RecurrentState, token_ids: Tensor) -> tuple[Tensor, RecurrentState, Tensor | None]:
        """One target token (B,) each -> logits (B, V), the state after it, and the weights over the source (B, S)
        that it was written with (None without attention)."""
        context, weights = self._context(state)
        seen, after = self._read(state, self.dropout(self.embed_target(token_ids))[:, None], context)
        return self.lm_head(seen[:, 0]), after, weights

    def forward(self, source_ids: Tensor, target_ids: Tensor) -> Tensor:
        """Logits (B, T, V) after each of the target's tokens (B, T), which begins with bos_token_id.

        Without attention all steps go through the recurrent kernel at once; with it, one by one.
        """
        state = self.encode(source_ids)
        embedded = self.dropout(self.embed_target(target_ids))
        parts = []
        for part in embedded.split(1 if self.config.attends else target_ids.size(1), dim=1):
            seen, state = self._read(state, part, self._context(state)[0])
            parts.append(seen)
        return self.lm_head(torch.cat(parts, dim=1))

    @torch.inference_mode()
    def greedy(self, source_ids: Tensor, *, max_new_tokens: int) -> list[list[int]]:
        """The most probable token at each step, for each row until its end token, which is not in the result."""
        first = torch.full((source_ids.size(0),), self.config.bos_token_id, device=source_ids.device)
        end = self.config.eos_token_id
        found = greedy(self, self.encode(source_ids), first, eos_token_id=end, max_new_tokens=max_new_tokens)
        return [text.token_ids for text in found]


def load_recurrent(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> RecurrentSeq2Seq:
    """A net that `save_recurrent` wrote, in evaluation mode. Raises ConfigError and DataError."""
    values = read_json(Path(folder) / "config.json")
    if values.get("model_type") != MODEL_TYPE:
        raise ConfigError(f"{folder} is a {values.get('model_type')!r:.60}, not a {MODEL_TYPE}")
    known = {key: value for key, value in values.items() if key not in ("model_type", "architectures")}
    config = from_dict(RecurrentConfig, {k: v for k, v in known.items() if k not in ("dtype", "torch_dtype")})
    with shapes_only():
        model = RecurrentSeq2Seq(config)
    load_weights(model, Path(folder), Names(), ignored=_NOTHING, dtype=dtype, device=device)
    for part in (model.encoder, model.decoder):
        part.flatten_parameters()
    return model


def save_recurrent(model: RecurrentSeq2Seq, folder: str | Path) -> None:
    """Write config.json and safetensors; only bloomery reads this kind."""
    document = {"model_type": MODEL_TYPE, "architectures": [type(model).__name__], **to_dict(model.config)}
    save_weights(model, folder, Names(), document)
