"""The decoder: every causal family that bloomery knows is this one module under a different config.

An embedding, blocks of attention and feed-forward, a last norm, an output head that may be the embedding; the
config and its family say which parts those are. Parameter names are Llama's. Shapes: B batch, T query length, S key
length, E hidden_size, V vocabulary. This module does not know files, losses or sampling.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import RequestError
from bloomery.models.attention import Attention, Mask, RaggedCache, Tables, causal_mask
from bloomery.models.block import Block
from bloomery.models.cache import KVCache
from bloomery.models.config import ModelConfig
from bloomery.models.feed_forward import FeedForward, GatedFeedForward, MixtureOfExperts
from bloomery.models.norms import make_norm
from bloomery.models.rope import inverse_frequencies, rope_tables


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
        self._tables: dict[str, Tables] = {}
        self.reset_parameters()

    @property
    def context_length(self) -> int:
        """Tokens that it can read at once."""
        return self.config.max_position_embeddings

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights of std initializer_range, ones for norms, zeros for biases and for what writes into the
        residual stream (o_proj, down_proj): each block begins as the identity. Uses PyTorch's global generator."""
        if self.model.embed_tokens.weight.is_meta:
            return
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and not name.endswith(("o_proj.weight", "down_proj.weight")):
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
        cache is written and advanced. RequestError if they exceed max_position_embeddings or the cache.
        """
        x = self.hidden_states(input_ids, cache=cache)
        return self.logits(x[:, -1:] if last_only else x)

    def logits(self, hidden: Tensor) -> Tensor:
        """What `hidden_states` gave, (..., E), through the output head: (..., V)."""
        logits = F.linear(hidden, self.output_weight)
        cap = self.output_softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def embed(self, input_ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, E): token embeddings, scaled where the family does, without positions."""
        x = self.model.embed_tokens(input_ids)
        if self.config.family.scales_embeddings:
            x = x * torch.tensor(self.config.hidden_size**0.5, dtype=x.dtype, device=x.device)
        return x

    def hidden_states(
        self, input_ids: Tensor, *, cache: KVCache | RaggedCache | None = None, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        """(B, T, E) after the last norm, before the output head. See `forward`. `inputs_embeds` (B, T, E) is read in
        place of what `embed` makes of the ids. With a `RaggedCache`, `input_ids` (1, N) are the new tokens of several
        sequences at their own positions."""
        places = self._places(input_ids, cache)
        x = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        if self.model.embed_positions is not None:
            x = x + self.model.embed_positions.weight[places.rows]
        for number, layer in enumerate(self.model.layers):
            x = layer(x, mask=places.mask(number), tables=places.tables(number), cache=cache)
        if isinstance(cache, KVCache):
            cache.length += input_ids.size(1)
        return self.model.norm(x)

    def _places(self, input_ids: Tensor, cache: KVCache | RaggedCache | None) -> _Places:
        """Where new tokens stand. RequestError if that is beyond the context or the cache."""
        length = input_ids.size(1)
        start = cache.length if isinstance(cache, KVCache) else 0
        end = cache.longest if isinstance(cache, RaggedCache) else start + length
        if end > self.config.max_position_embeddings:
            raise RequestError(
                f"{end:,} tokens are more than the model's context of {self.config.max_position_embeddings:,}",
                code="context_length_exceeded",
            )
        if isinstance(cache, KVCache):
            cache.reserve(length)
        if isinstance(cache, RaggedCache):
            return _Places(self, cache.positions, end)
        return _Places(self, slice(start, end), end)

    def rope(self, layer: int, end: int, device: torch.device) -> Tables | None:
        """Rotary tables, float32, of at least the positions below `end`; None for a layer without.

        Kept, and grown by doubling, so that a long context costs nothing unused. Made outside inference mode even
        if a forward in it asks first: training later saves them for backward.
        """
        config = self.config
        if not config.uses_rope(layer):
            return None
        kind = config.layer_type(layer)
        known = self._tables.get(kind)
        if known is None or known[0].size(0) < end or known[0].device != device:
            rows = min(config.max_position_embeddings, max(1024, 1 << (end - 1).bit_length()))
            theta, scaling = config.rope_of(layer)
            with torch.inference_mode(False):
                frequencies, factor = inverse_frequencies(
                    config.rotary_dim, theta, scaling, config.max_position_embeddings
                )
                cos, sin = rope_tables(frequencies, factor, rows)
                known = self._tables[kind] = (cos.to(device), sin.to(device))
        return known


class _Places:
    """Where the tokens of one forward stand: what each layer needs to know of it, made once for layers of a kind.

    `rows` are their positions, a slice if they follow one another, else a tensor (N,); `end` is above them all.
    """

    def __init__(self, decoder: Decoder, rows: slice | Tensor, end: int) -> None:
        self.rows, self._end = rows, end
        self._decoder, self._device = decoder, decoder.model.embed_tokens.weight.device
        self._masks: dict[str, Mask] = {}
        self._tables: dict[str, Tables | None] = {}

    def mask(self, layer: int) -> Mask:
        config = self._decoder.config
        kind = config.layer_type(layer)
        if kind not in self._masks:
            window, rows = config.window(layer), self.rows
            ragged = isinstance(rows, Tensor)
            self._masks[kind] = (
                Mask(window=window) if ragged else causal_mask(rows.start, rows.stop - rows.start, window, self._device)
            )
        return self._masks[kind]

    def tables(self, layer: int) -> Tables | None:
        """Rotary tables of the tokens; None for a layer without."""
        kind = self._decoder.config.layer_type(layer)
        if kind not in self._tables or not self._decoder.config.uses_rope(layer):
            whole = self._decoder.rope(layer, self._end, self._device)
            if whole is None:
                return None
            self._tables[kind] = (whole[0][self.rows], whole[1][self.rows])
        return self._tables[kind]
