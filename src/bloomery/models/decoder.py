"""The decoder: every causal family that bloomery knows is this one module under a different config.

An embedding, blocks of attention and feed-forward, a last norm, an output head that may be the embedding; the
config and its family say which parts those are. Parameter names are Llama's. Shapes: B batch, T query length, S key
length, E hidden_size, V vocabulary. This module does not know files, losses or sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bloomery.core.errors import RequestError
from bloomery.models.alibi import slopes, with_alibi
from bloomery.models.attention import Attention, Mask, RaggedCache, Tables, causal_mask
from bloomery.models.bigrams import BigramEmbedding
from bloomery.models.block import Block
from bloomery.models.cache import KVCache
from bloomery.models.config import ModelConfig
from bloomery.models.feed_forward import FeedForward, GatedFeedForward, MixtureOfExperts
from bloomery.models.norms import make_norm
from bloomery.models.packed_texts import on_device
from bloomery.models.rope import inverse_frequencies, rope_tables

_ZERO = ("o_proj.weight", "down_proj.weight", "v_gate.weight", "embed_bigrams.table.weight")
_KEPT_TABLES = 8
"""Rotary tables that are kept at most: one for each kind of layer and each reach of late."""


def _norm(config: ModelConfig, size: int) -> nn.Module:
    return make_norm(config.family.norm, size, config.rms_norm_eps)


def _attention(config: ModelConfig, layer: int) -> Attention:
    family = config.family
    qkv_bias = config.attention_bias if family.qkv_bias is None else family.qkv_bias
    output_bias = config.attention_bias if family.output_bias is None else family.output_bias
    return Attention(
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        qk_norm=family.qk_norm,
        norm=lambda size: _norm(config, size),
        scale=(config.query_pre_attn_scalar or config.head_dim) ** -0.5,
        softcap=config.attn_logit_softcapping,
        value_gate=layer in config.value_embedding_layers,
        layer=layer,
    )


def _feed_forward(config: ModelConfig, layer: int) -> nn.Module:
    if config.is_sparse(layer):
        return MixtureOfExperts(
            config.hidden_size,
            config.moe_intermediate_size or config.intermediate_size,
            config.hidden_act,
            num_experts=config.num_experts,
            num_experts_per_tok=config.num_experts_per_tok,
            norm_topk_prob=config.norm_topk_prob,
        )
    kind = GatedFeedForward if config.family.gated else FeedForward
    return kind(config.hidden_size, config.intermediate_size, config.hidden_act, bias=config.mlp_bias)


def _block(config: ModelConfig, layer: int) -> Block:
    return Block(
        _attention(config, layer),
        _feed_forward(config, layer),
        lambda: _norm(config, config.hidden_size),
        placement=config.family.placement,
        parallel=config.use_parallel_residual,
    )


class Trunk(nn.Module):
    """Embedding, layers and the last norm: what Hugging Face calls `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = None
        if config.family.positions == "learned":
            self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.embed_norm = _norm(config, config.hidden_size) if config.family.embedding_norm else None
        self.embed_bigrams = None
        if config.bigram_vocab_size:
            self.embed_bigrams = BigramEmbedding(config.bigram_vocab_size, config.hidden_size)
        width = config.num_key_value_heads * config.head_dim
        self.embed_values = nn.ModuleDict(
            {str(layer): nn.Embedding(config.vocab_size, width) for layer in config.value_embedding_layers}
        )
        self.layers = nn.ModuleList(_block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = _norm(config, config.hidden_size)


class Decoder(nn.Module):
    """A causal language model. A new one has random weights (see `reset_parameters`)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = (
            None if config.tie_word_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        )
        self.packed_head: nn.Module | None = None
        """The output head in another layout (see `packing`), for inference."""
        self.on_logits: Callable[[Tensor, Tensor], Tensor] | None = None
        """What becomes of (hidden, logits) before they are capped: a tied head is no module of its own."""
        self.recomputes = False
        """Whether a layer's inside is computed again in backward instead of being kept: less memory, a third more time
        (gradient checkpointing; Chen et al., arXiv 1604.06174)."""
        self._tables: dict[tuple[str, int], Tables] = {}
        self.reset_parameters()

    @property
    def kept_tables(self) -> Mapping[Any, Tables]:
        """The rotary tables that are kept now."""
        return self._tables

    @property
    def context_length(self) -> int:
        """Tokens that it can read at once."""
        return self.config.context_length

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights of std initializer_range, ones for norms, zeros for biases, for what writes into the
        residual stream (o_proj, down_proj) and for what is an addition (bigrams, gates): each block begins as the
        identity, each gate at one. Uses PyTorch's global generator."""
        if self.model.embed_tokens.weight.is_meta:
            return
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and not name.endswith(_ZERO):
                parameter.normal_(0.0, self.config.initializer_range)
            elif name.endswith("norm.weight"):
                parameter.fill_(0.0 if self.config.family.norm == "rms_from_one" else 1.0)
            else:
                parameter.zero_()

    @property
    def output_weight(self) -> Tensor:
        """(V, E): the output head, which may be the token embedding."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @property
    def output_softcap(self) -> float | None:
        """What bounds the logits; None: nothing."""
        return self.config.final_logit_softcapping

    def forward(self, input_ids: Tensor, *, cache: KVCache | None = None, last_only: bool = False) -> Tensor:
        """Logits (B, T, V), or (B, 1, V) of the last position with `last_only`, in the compute dtype.

        `input_ids` (B, T) follow the `cache.length` positions that the cache holds already, if there is one; the
        cache is written and advanced. RequestError if they exceed the context or the cache.
        """
        x = self.hidden_states(input_ids, cache=cache)
        return self.logits(x[:, -1:] if last_only else x)

    def logits(self, hidden: Tensor) -> Tensor:
        """What `hidden_states` gave, (..., E), through the output head: (..., V)."""
        logits = F.linear(hidden, self.output_weight) if self.packed_head is None else self.packed_head(hidden)
        if self.on_logits is not None:
            logits = self.on_logits(hidden, logits)
        cap = self.output_softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def embed(self, input_ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, E): token embeddings, scaled where the family does, without positions."""
        x = self.model.embed_tokens(input_ids)
        if self.config.family.scales_embeddings:
            x = x * torch.tensor(self.config.hidden_size**0.5, dtype=x.dtype, device=x.device)
        return x

    def hidden_states(
        self,
        input_ids: Tensor,
        *,
        cache: KVCache | RaggedCache | None = None,
        inputs_embeds: Tensor | None = None,
        lengths: tuple[int, ...] | None = None,
    ) -> Tensor:
        """(B, T, E) after the last norm, before the output head. See `forward`. `inputs_embeds` (B, T, E) is read in
        place of what `embed` makes of the ids. With a `RaggedCache`, `input_ids` (1, N) are the new tokens of several
        sequences at their own positions; with `lengths`, and no cache, whole texts one after the other, each of which
        is computed as if it stood alone."""
        places = self._places(input_ids, cache, lengths)
        model = self.model
        x = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        if model.embed_norm is not None:
            x = model.embed_norm(x)
        if model.embed_positions is not None:
            x = x + model.embed_positions.weight[places.rows]
        if model.embed_bigrams is not None:
            previous = self._previous(input_ids, cache)
            if lengths is not None:
                previous[0, places.rows == 0] = self.config.vocab_size
            x = x + model.embed_bigrams(input_ids, previous)
        for number, layer in enumerate(model.layers):
            values = model.embed_values[str(number)](input_ids) if str(number) in model.embed_values else None
            mask, tables = places.mask(number), places.tables(number)
            if self.recomputes and cache is None and torch.is_grad_enabled():
                x = checkpoint(layer, x, mask=mask, tables=tables, value_embeds=values, use_reentrant=False)
            else:
                x = layer(x, mask=mask, tables=tables, cache=cache, value_embeds=values)
        if isinstance(cache, KVCache):
            cache.length += input_ids.size(1)
        return model.norm(x)

    def _previous(self, input_ids: Tensor, cache: KVCache | RaggedCache | None) -> Tensor:
        """(B, T): the id before each token; vocab_size where a text begins."""
        none = self.config.vocab_size
        if cache is not None:
            return cache.previous(input_ids, none)
        return torch.cat((torch.full_like(input_ids[:, :1], none), input_ids[:, :-1]), dim=1)

    def _places(
        self, input_ids: Tensor, cache: KVCache | RaggedCache | None, lengths: tuple[int, ...] | None = None
    ) -> _Places:
        """Where new tokens stand. RequestError if that is beyond the context or the cache."""
        length = input_ids.size(1) if lengths is None else max(lengths)
        start = cache.length if isinstance(cache, KVCache) else 0
        end = cache.longest if isinstance(cache, RaggedCache) else start + length
        if end > self.config.context_length:
            raise RequestError(
                f"{end:,} tokens are more than the model's context of {self.config.context_length:,}",
                code="context_length_exceeded",
            )
        if isinstance(cache, KVCache):
            cache.reserve(length)
        if isinstance(cache, RaggedCache):
            return _Places(self, cache.positions, end, cache.reaches)
        if lengths is not None:
            rows = on_device(torch.cat([torch.arange(one) for one in lengths]), input_ids.device)
            reaches = torch.tensor([self.config.reach(one) for one in lengths])
            return _Places(self, rows, end, reaches.repeat_interleave(torch.tensor(lengths)), lengths)
        return _Places(self, slice(start, end), end, self.config.reach(end if cache is None else cache.max_length))

    def rope(self, layer: int, end: int, reach: int, device: torch.device) -> Tables | None:
        """Rotary tables, float32, of at least the positions below `end`; None for a layer without.

        `reach` is `ModelConfig.reach` of the text: with dynamic and longrope scaling the frequencies depend on how long
        it is. Without a cache that is its own length, as in transformers. With one it is all that the cache or the
        request can come to hold, so that all keys and queries of a request are turned alike however it is cut into
        steps, and its last step is what a whole forward of that length gives. (transformers changes frequencies as a
        text grows, and keeps the keys that it turned by the earlier ones.)

        Kept, and grown by doubling, so that a long context costs nothing unused. Made outside inference mode even
        if a forward in it asks first: training later saves them for backward.
        """
        config = self.config
        if not config.uses_rope(layer):
            return None
        theta, scaling = config.rope_of(layer)
        key = config.layer_type(layer), reach if scaling is not None else 0
        known = self._tables.get(key)
        if known is None or known[0].size(0) < end or known[0].device != device:
            rows = min(config.context_length, max(1024, 1 << (end - 1).bit_length()))
            with torch.inference_mode(False):
                frequencies, factor = inverse_frequencies(
                    config.rotary_dim, theta, scaling, config.max_position_embeddings, reach
                )
                cos, sin = rope_tables(frequencies, factor, rows)
                known = self._tables[key] = (cos.to(device), sin.to(device))
            if len(self._tables) > _KEPT_TABLES:
                del self._tables[next(iter(self._tables))]
        return known


class _Places:
    """Where the tokens of one forward stand: what each layer needs to know of it, made once for layers of a kind.

    `rows` are their positions, a slice if they follow one another, else a tensor (N,); `end` is above them all;
    `reach` is their text's, or (N,) that of each; `lengths` are those of whole texts.
    """

    def __init__(
        self,
        decoder: Decoder,
        rows: slice | Tensor,
        end: int,
        reach: int | Tensor,
        lengths: tuple[int, ...] | None = None,
    ) -> None:
        self.rows, self._end, self._reach, self._lengths = rows, end, reach, lengths
        self._decoder, self._device = decoder, decoder.model.embed_tokens.weight.device
        self._masks: dict[str, Mask] = {}
        self._tables: dict[str, Tables | None] = {}

    def mask(self, layer: int) -> Mask:
        config = self._decoder.config
        kind = config.layer_type(layer)
        if kind not in self._masks:
            window, rows = config.window(layer), self.rows
            slope = None
            if config.family.positions == "alibi":
                slope = torch.tensor(slopes(config.num_attention_heads), device=self._device)
            if isinstance(rows, Tensor) and self._lengths is None:
                self._masks[kind] = Mask(window=window, slopes=slope)
            else:
                start = rows.start if isinstance(rows, slice) else 0
                length = self._end - start
                mask = causal_mask(start, length, window, self._device)
                mask = mask if slope is None else with_alibi(mask, slope, start, length)
                self._masks[kind] = mask if self._lengths is None else replace(mask, lengths=self._lengths)
        return self._masks[kind]

    def tables(self, layer: int) -> Tables | None:
        """Rotary tables of the tokens; None for a layer without."""
        config = self._decoder.config
        if not config.uses_rope(layer):
            return None
        kind = config.layer_type(layer)
        if kind not in self._tables:
            self._tables[kind] = self._made(layer)
        return self._tables[kind]

    def _made(self, layer: int) -> Tables:
        first, *others = self._reach.unique().tolist() if isinstance(self._reach, Tensor) else [self._reach]
        cos, sin = (whole[self.rows] for whole in self._whole(layer, first))
        for reach in others:  # texts of several reaches in one step
            assert isinstance(self._reach, Tensor) and isinstance(self.rows, Tensor)
            mine = (self._reach == reach).to(self._device)
            cos[mine], sin[mine] = (whole[self.rows[mine]] for whole in self._whole(layer, reach))
        return cos, sin

    def _whole(self, layer: int, reach: int) -> Tables:
        found = self._decoder.rope(layer, self._end, reach, self._device)
        assert found is not None
        return found
