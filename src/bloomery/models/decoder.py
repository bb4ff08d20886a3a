"""The decoder: every causal family that bloomery knows is this one module under a different config.

Root-mean-square norms, rotary positions, grouped-query attention through PyTorch's scaled dot product, an optional
norm on queries and keys (Qwen3), a SwiGLU feed-forward, an output head that may be the embedding. Parameter names
are exactly Hugging Face's. Shapes: B batch, T query length, S key length, H heads, D head_dim, E hidden_size,
V vocabulary. This module does not know files, losses or sampling.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import RequestError
from bloomery.models.cache import KVCache
from bloomery.models.config import ModelConfig
from bloomery.models.rope import inverse_frequencies, rope_tables, rotate


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, computed in float32 and returned in the dtype of x.

    Zhang and Sennrich, arXiv 1910.07467.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype == torch.float32:
            return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
        return (F.rms_norm(x.float(), self.weight.shape, None, self.eps).to(x.dtype) * self.weight).to(x.dtype)


class Attention(nn.Module):
    """Causal self-attention with H query heads in H_kv groups."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        inner, kv_inner, bias = self.heads * self.head_dim, self.kv_heads * self.head_dim, config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, inner, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_inner, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_inner, bias=bias)
        self.o_proj = nn.Linear(
            inner, config.hidden_size, bias=bias and config.family.output_bias_follows_attention_bias
        )
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None) -> Tensor:
        """x (B, T, E), tables (T, D) -> (B, T, E)."""
        batch, length, _ = x.shape
        query = self.q_proj(x).view(batch, length, self.heads, self.head_dim)
        key = self.k_proj(x).view(batch, length, self.kv_heads, self.head_dim)
        value = self.v_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
        query = rotate(query.transpose(1, 2), cos, sin).to(value.dtype)
        key = rotate(key.transpose(1, 2), cos, sin).to(value.dtype)
        mask = None
        if cache is not None:
            before = cache.length
            key, value = cache.write(self.layer, key, value)
            if before and length > 1:
                mask = torch.ones(length, before + length, dtype=torch.bool, device=x.device).tril(before)
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None and length > 1,
            enable_gqa=self.heads != self.kv_heads,
        )
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, self.heads * self.head_dim))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)). Shazeer, arXiv 2002.05202."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner, bias = config.intermediate_size, config.mlp_bias
        self.gate_proj = nn.Linear(config.hidden_size, inner, bias=bias)
        self.up_proj = nn.Linear(config.hidden_size, inner, bias=bias)
        self.down_proj = nn.Linear(inner, config.hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: attention, then feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = SwiGLU(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """Embedding, layers and the last norm: what Hugging Face calls `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Decoder(nn.Module):
    """A causal language model. A new one has random weights (see `reset_parameters`)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = (
            None if config.tie_word_embeddings else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        )
        self._tables: tuple[Tensor, Tensor] | None = None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights of std initializer_range, ones for norms, zeros for biases and for what writes into the
        residual stream (o_proj, down_proj): each block begins as the identity. Uses PyTorch's global generator."""
        if self.model.embed_tokens.weight.is_meta:
            return
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and not name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.normal_(0.0, self.config.initializer_range)
            elif "norm" in name:
                parameter.fill_(1.0)
            else:
                parameter.zero_()

    @property
    def output_weight(self) -> Tensor:
        """(V, E): the output head, which may be the token embedding."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def forward(self, input_ids: Tensor, *, cache: KVCache | None = None, last_only: bool = False) -> Tensor:
        """Logits (B, T, V), or (B, 1, V) of the last position with `last_only`, in the compute dtype.

        `input_ids` (B, T) follow the `cache.length` positions that the cache holds already, if there is one; the
        cache is written and advanced. RequestError if they exceed max_position_embeddings or the cache.
        """
        x = self.hidden_states(input_ids, cache=cache)
        if last_only:
            x = x[:, -1:]
        return F.linear(x, self.output_weight)

    def hidden_states(self, input_ids: Tensor, *, cache: KVCache | None = None) -> Tensor:
        """(B, T, E) after the last norm, before the output head. See `forward`."""
        length = input_ids.size(1)
        start = 0 if cache is None else cache.length
        if start + length > self.config.max_position_embeddings:
            raise RequestError(
                f"{start + length:,} tokens are more than the model's context of "
                f"{self.config.max_position_embeddings:,}",
                code="context_length_exceeded",
            )
        if cache is not None:
            cache.reserve(length)
        x = self.model.embed_tokens(input_ids)
        cos, sin = self._rope(start + length, x.device)
        cos, sin = cos[start : start + length], sin[start : start + length]
        for layer in self.model.layers:
            x = layer(x, cos, sin, cache)
        if cache is not None:
            cache.length += length
        return self.model.norm(x)

    def _rope(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Tables of at least `length` rows, float32; grown by doubling, so that a long context costs nothing unused.

        Made outside inference mode even if a forward in it asks first: training later saves them for backward.
        """
        if self._tables is None or self._tables[0].size(0) < length or self._tables[0].device != device:
            config = self.config
            rows = min(config.max_position_embeddings, max(1024, 1 << (length - 1).bit_length()))
            with torch.inference_mode(False):
                frequencies, factor = inverse_frequencies(
                    config.head_dim, config.rope_theta, config.rope_scaling, config.max_position_embeddings
                )
                cos, sin = rope_tables(frequencies, factor, rows)
                self._tables = (cos.to(device), sin.to(device))
        return self._tables
