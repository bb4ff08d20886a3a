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
from bloomery.models.alibi import slopes, with_alibi
from bloomery.models.attention import Attention, Mask, Tables, causal_mask
from bloomery.models.bigrams import BigramEmbedding
from bloomery.models.block import Block
from bloomery.models.cache import KVCache
from bloomery.models.config import ModelConfig
from bloomery.models.feed_forward import FeedForward, GatedFeedForward, MixtureOfExperts
from bloomery.models.norms import make_norm
from bloomery.models.rope import inverse_frequencies, rope_tables

_ZERO = ("o_proj.weight", "down_proj.weight", "v_gate.weight", "embed_bigrams.table.weight")


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
            self.embed_bigrams = BigramEmbedding(config.bigram_vocab_size, config.hidden_size, config.vocab_size)
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
        self._tables: dict[str, tuple[int, Tables]] = {}
        self.reset_parameters()

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
        self, input_ids: Tensor, *, cache: KVCache | None = None, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        """(B, T, E) after the last norm, before the output head. See `forward`. `inputs_embeds` (B, T, E) is read in
        place of what `embed` makes of the ids."""
        config, length = self.config, input_ids.size(1)
        start = 0 if cache is None else cache.length
        if start + length > config.context_length:
            raise RequestError(
                f"{start + length:,} tokens are more than the model's context of {config.context_length:,}",
                code="context_length_exceeded",
            )
        if cache is not None:
            cache.reserve(length)
        x = self._inputs(input_ids, start, cache, inputs_embeds)
        reach = length if cache is None else cache.max_length
        masks: dict[str, Mask] = {}
        for number, layer in enumerate(self.model.layers):
            kind = config.layer_type(number)
            if kind not in masks:
                masks[kind] = self._mask(number, start, length, x.device)
            tables = self._rope(number, start, length, reach, x.device)
            values = (
                self.model.embed_values[str(number)](input_ids) if number in config.value_embedding_layers else None
            )
            x = layer(x, mask=masks[kind], tables=tables, cache=cache, value_embeds=values)
        if cache is not None:
            cache.length += length
        return self.model.norm(x)

    def _inputs(self, input_ids: Tensor, start: int, cache: KVCache | None, embedded: Tensor | None) -> Tensor:
        """(B, T, E): what the first block reads of the ids at positions from `start` on."""
        model = self.model
        x = self.embed(input_ids) if embedded is None else embedded
        if model.embed_norm is not None:
            x = model.embed_norm(x)
        if model.embed_positions is not None:
            x = x + model.embed_positions.weight[start : start + input_ids.size(1)]
        if model.embed_bigrams is not None:
            x = x + model.embed_bigrams(input_ids, None if cache is None else cache.write_ids(input_ids))
        return x

    def _mask(self, layer: int, start: int, length: int, device: torch.device) -> Mask:
        """What a layer's queries at positions from `start` on see, positions by distance included."""
        config = self.config
        mask = causal_mask(start, length, config.window(layer), device)
        if config.family.positions != "alibi":
            return mask
        return with_alibi(mask, torch.tensor(slopes(config.num_attention_heads), device=device), start, length)

    def _rope(self, layer: int, start: int, length: int, reach: int, device: torch.device) -> Tables | None:
        """Rotary tables of the positions from `start` on, float32; None for a layer without.

        Scalings that depend on how long a text is (dynamic, longrope) take `reach` for it: without a cache the text's
        own length, as transformers does; with one all that it can hold. So all keys and queries of a request are turned
        alike, however it is cut into steps, and its last step is what a whole forward of that length would give.

        Kept, and grown by doubling, so that a long context costs nothing unused. Made outside inference mode even
        if a forward in it asks first: training later saves them for backward.
        """
        config = self.config
        if not config.uses_rope(layer):
            return None
        kind, end = config.layer_type(layer), start + length
        theta, scaling = config.rope_of(layer)
        reach = 0 if scaling is None else scaling.reach(reach, config.max_position_embeddings)
        known = self._tables.get(kind)
        if known is None or known[0] != reach or known[1][0].size(0) < end or known[1][0].device != device:
            rows = min(config.context_length, max(1024, 1 << (end - 1).bit_length()))
            with torch.inference_mode(False):
                frequencies, factor = inverse_frequencies(
                    config.rotary_dim, theta, scaling, config.max_position_embeddings, reach
                )
                cos, sin = rope_tables(frequencies, factor, rows)
                known = self._tables[kind] = (reach, (cos.to(device), sin.to(device)))
        return known[1][0][start:end], known[1][1][start:end]
