"""The encoder: BERT, RoBERTa and ModernBERT are this one module under a different config.

Embeddings, bidirectional blocks, and a head that fills blanks or classifies; attention and block are the decoder's.
Shapes: B batch, T length, E hidden_size, V vocabulary, C labels. This module does not know tokenizers, losses or how
a sentence's vector is pooled (see `pooling`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, RequestError
from bloomery.models.attention import EVERYTHING, Attention, Mask, Tables, window_mask
from bloomery.models.block import Block
from bloomery.models.encoder_config import FULL, SLIDING, EncoderConfig
from bloomery.models.feed_forward import FeedForward, GatedFeedForward, activation
from bloomery.models.norms import make_norm
from bloomery.models.outline import shapes_only
from bloomery.models.rope import inverse_frequencies, rope_tables
from bloomery.models.unpadding import Rows, pays
from bloomery.models.weights import load_weights, read_json, save_weights

# What follows from the config, or belongs to a head that is not asked for: BERT's sentence order, and its pooler.
_IGNORED = r"(.*\.position_ids|cls\.seq_relationship\..*|cls\.predictions\.decoder\.bias|lm_head\.decoder\.bias"
_POOLER = r"|(bert\.|roberta\.)?pooler\..*"


class Head(nn.Module):
    """act(dense(x)), and a norm where the family has one: (..., E) -> (..., E)."""

    def __init__(self, config: EncoderConfig, *, bias: bool, act: str, norm: str | None) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=bias)
        self.act = activation(act)
        self.norm = None if norm is None else make_norm(norm, config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.dense(x))
        return x if self.norm is None else self.norm(x)


def _norm_kind(config: EncoderConfig) -> str:
    return "layer" if config.norm_bias else "layer_no_bias"


def _block(config: EncoderConfig, layer: int) -> Block:
    attention = Attention(
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        qkv_bias=config.attention_bias,
        output_bias=config.attention_bias,
        layer=layer,
    )
    kind = GatedFeedForward if config.family.modern else FeedForward
    block = Block(
        attention,
        kind(config.hidden_size, config.intermediate_size, config.hidden_act, bias=config.mlp_bias),
        lambda: make_norm(_norm_kind(config), config.hidden_size, config.layer_norm_eps),
        placement="pre" if config.family.modern else "post",
    )
    if config.family.modern and layer == 0:
        block.input_layernorm = nn.Identity()  # the embeddings were normalised just before
    return block


def _head(config: EncoderConfig) -> Head | None:
    if config.family.modern and config.head != "none":
        act = config.classifier_activation
        return Head(config, bias=config.classifier_bias, act=act, norm=_norm_kind(config))
    if config.head == "masked":
        act = config.hidden_act if config.model_type == "bert" else "gelu"
        return Head(config, bias=True, act=act, norm="layer")
    return Head(config, bias=True, act="tanh", norm=None) if config.head == "sequence" else None


class Encoder(nn.Module):
    """A bidirectional encoder with the head that its config names. A new one has random weights."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        size, modern = config.hidden_size, config.family.modern
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.embed_positions = None if modern else nn.Embedding(config.max_position_embeddings, size)
        self.embed_types = None if modern else nn.Embedding(config.type_vocab_size, size)
        self.embed_norm = make_norm(_norm_kind(config), size, config.layer_norm_eps)
        self.layers = nn.ModuleList(_block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = make_norm(_norm_kind(config), size, config.layer_norm_eps) if modern else None
        self.head = _head(config)
        classifies = config.head in ("sequence", "token")
        self.classifier = nn.Linear(size, config.num_labels) if classifies else None
        masked, biased = config.head == "masked", config.decoder_bias
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size)) if masked and biased else None
        untied = masked and not config.tie_word_embeddings
        self.output_weight = nn.Parameter(torch.empty(config.vocab_size, size)) if untied else None
        self._tables: dict[str, Tables] = {}
        self.reset_parameters()

    @property
    def context_length(self) -> int:
        """Tokens that it can read at once."""
        return self.config.context_length

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights of std initializer_range, ones for norms, zeros for biases."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(0.0, self.config.initializer_range)
            else:
                parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)

    def hidden_states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        unpad: bool | None = False,
    ) -> Tensor:
        """(B, T) ids -> (B, T, E). `attention_mask` (B, T) is 0 at padding, which nothing sees; `token_type_ids`
        (B, T) tell segments apart (BERT's). RequestError for more tokens than the context.

        `unpad` computes nothing for padding at the end of rows, whose states are then zero; the others are the same
        within rounding. None: where it pays (see `unpadding`).
        """
        length, context = input_ids.size(1), self.config.context_length
        if length > context:
            raise RequestError(
                f"{length:,} tokens are more than the model's context of {context:,}", code="context_length_exceeded"
            )
        x = self.embed_norm(self._embed(input_ids, token_type_ids))
        tables = {kind: self._rope(kind, length, x.device) for kind in (FULL, SLIDING)}
        rows = None if unpad is False or attention_mask is None else Rows.of(attention_mask)
        if rows is None or not (unpad or pays(rows, x.device)):
            return self._layers(x, self._masks(input_ids, attention_mask), tables)
        at = rows.positions
        tables = {kind: table and (table[0][at], table[1][at]) for kind, table in tables.items()}
        return rows.unpack(self._layers(rows.pack(x), self._packed_masks(rows.lengths, x.device), tables))

    def _layers(self, x: Tensor, masks: tuple[Mask, Mask], tables: Mapping[str, Tables | None]) -> Tensor:
        """Blocks and the last norm."""
        for number, layer in enumerate(self.layers):
            kind = self.config.layer_types[number] if self.config.layer_types else FULL
            x = layer(x, mask=masks[kind == SLIDING], tables=tables[kind])
        return x if self.norm is None else self.norm(x)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        unpad: bool | None = False,
    ) -> Tensor:
        """What the head says: (B, T, V) for "masked", (B, C) for "sequence", (B, T, C) for "token". `unpad` as in
        `hidden_states`. ConfigError for an encoder without a head."""
        hidden = self.hidden_states(input_ids, attention_mask, token_type_ids, unpad=unpad)
        if self.config.head == "none":
            raise ConfigError("this encoder has no head", hint="use its hidden states, or load it with a head")
        if self.config.head == "sequence":
            hidden = self._first_or_mean(hidden, attention_mask)
        return self.logits(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """What `hidden_states` gave, (..., E), through the head: (..., V) for "masked", (..., C) for a classifier."""
        if self.head is not None:
            hidden = self.head(hidden)
        if self.classifier is not None:
            return self.classifier(hidden)
        weight = self.embed_tokens.weight if self.output_weight is None else self.output_weight
        return F.linear(hidden, weight, self.output_bias)

    def _first_or_mean(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        if not self.config.family.modern or self.config.classifier_pooling == "cls":
            return hidden[:, 0]
        kept = torch.ones_like(hidden[..., 0]) if attention_mask is None else attention_mask.to(hidden.dtype)
        return (hidden * kept[..., None]).sum(1) / kept.sum(1, keepdim=True)

    def _embed(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        x = self.embed_tokens(input_ids)
        if self.embed_positions is None or self.embed_types is None:
            return x
        if self.config.family.offset_positions:
            real = (input_ids != self.config.pad_token_id).long()
            positions = real.cumsum(1) * real + (self.config.pad_token_id or 0)
        else:
            positions = torch.arange(input_ids.size(1), device=input_ids.device)
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        return x + self.embed_types(types) + self.embed_positions(positions)

    def _masks(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Mask, Mask]:
        """What full layers see, and what sliding layers see."""
        seen = None if attention_mask is None else attention_mask.bool()[:, None, None, :]
        full = EVERYTHING if seen is None else Mask(seen)
        if SLIDING not in self.config.layer_types:
            return full, full
        near = window_mask(input_ids.size(1), self.config.local_attention // 2, input_ids.device)
        if seen is None:
            return full, Mask(near)
        # Padding far from any text still sees itself: a row that sees nothing has no softmax.
        itself = torch.eye(input_ids.size(1), dtype=torch.bool, device=input_ids.device)
        return full, Mask((near & seen) | itself)

    def _packed_masks(self, lengths: tuple[int, ...], device: torch.device) -> tuple[Mask, Mask]:
        """As `_masks`, of rows that lie one after the other."""
        full = Mask(lengths=lengths)
        if SLIDING not in self.config.layer_types:
            return full, full
        return full, Mask(window_mask(max(lengths), self.config.local_attention // 2, device), lengths=lengths)

    def _rope(self, kind: str, length: int, device: torch.device) -> Tables | None:
        config = self.config
        if not config.family.modern:
            return None
        known = self._tables.get(kind)
        if known is None or known[0].size(0) < length or known[0].device != device:
            rows = min(config.max_position_embeddings, max(512, 1 << (length - 1).bit_length()))
            theta = config.rope_local_base_freq if kind == SLIDING else config.rope_theta
            with torch.inference_mode(False):
                frequencies, factor = inverse_frequencies(config.head_dim, theta, None, rows)
                cos, sin = rope_tables(frequencies, factor, rows)
                known = self._tables[kind] = (cos.to(device), sin.to(device))
        return known[0][:length], known[1][:length]


def load_encoder(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Encoder:
    """An encoder from a local Hugging Face folder, in evaluation mode, with the head that config.json names.

    A pooler is read only where a classifier needs it. Errors as `load_pretrained`'s.
    """
    folder = Path(folder)
    config = EncoderConfig.from_hf(read_json(folder / "config.json"))
    with shapes_only():
        encoder = Encoder(config)
    ignored = re.compile(_IGNORED + ("" if config.head == "sequence" else _POOLER) + ")$")
    tied = {"output_weight": "embed_tokens.weight"} if config.head == "masked" and encoder.output_weight is None else {}
    load_weights(encoder, folder, config.names(), tied=tied, ignored=ignored, dtype=dtype, device=device)
    return encoder


def save_encoder(encoder: Encoder, folder: str | Path) -> None:
    """Write config.json and safetensors that transformers reads."""
    save_weights(encoder, folder, encoder.config.names(), encoder.config.to_hf())
