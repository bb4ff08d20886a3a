"""The encoder-decoder transformer: T5, T5 v1.1 and mT5 on the same attention and block as the others.

Raffel et al., arXiv 1910.10683; Shazeer, arXiv 2002.05202 (v1.1); Xue et al., arXiv 2010.11934 (mT5). Shapes: B batch,
T target length, S source length, E d_model, V vocabulary. This module does not know tokenizers or losses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.models.attention import EVERYTHING, Attention, Mask, attend
from bloomery.models.block import Block
from bloomery.models.feed_forward import FeedForward, GatedFeedForward
from bloomery.models.norms import make_norm
from bloomery.models.outline import shapes_only
from bloomery.models.relative_bias import RelativeBias
from bloomery.models.seq2seq_config import Seq2SeqConfig
from bloomery.models.text_decoding import greedy
from bloomery.models.weights import load_weights, read_json, save_weights, tensor_names

_HEAD = "lm_head.weight"
# Copies of the embedding, and a bias table that cross attention never used.
_IGNORED = re.compile(r"(encoder|decoder)\.embed_tokens\.weight$|.*\.EncDecAttention\.relative_attention_bias\.weight$")
KeysValues = tuple[Tensor, Tensor]


@dataclass
class Memory:
    """What the decoder sees of a source: keys and values (B, H, S, D) for each layer, and which of S are real."""

    keys_values: list[KeysValues]
    mask: Mask

    def select(self, rows: Tensor | slice) -> Memory:
        """These rows of the batch, which may repeat."""
        kept = self.mask if self.mask.tensor is None else Mask(self.mask.tensor[rows])
        return Memory([(keys[rows], values[rows]) for keys, values in self.keys_values], kept)

    def cut(self, length: int) -> Memory:
        """Without what lies behind the first `length` positions, which is padding."""
        kept = self.mask if self.mask.tensor is None else Mask(self.mask.tensor[..., :length])
        return Memory([(keys[:, :, :length], values[:, :, :length]) for keys, values in self.keys_values], kept)


class StepCache:
    """Keys and values of the targets so far, for each layer; rows of a batch have the same length."""

    def __init__(self) -> None:
        self.layers: dict[int, KeysValues] = {}
        self.length = 0

    def write(self, layer: int, keys: Tensor, values: Tensor) -> KeysValues:
        """Append (B, H, T, D) of both; returns all so far."""
        if layer in self.layers:
            before = self.layers[layer]
            keys, values = torch.cat((before[0], keys), dim=2), torch.cat((before[1], values), dim=2)
        self.layers[layer] = (keys, values)
        return keys, values

    def select(self, rows: Tensor | slice) -> StepCache:
        """These rows of the batch, which may repeat, in a cache of their own."""
        chosen = StepCache()
        chosen.layers = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self.layers.items()}
        chosen.length = self.length
        return chosen


@dataclass
class Seq2SeqState:
    """What a step needs: the source and the targets so far. `text_decoding` reorders its rows."""

    memory: Memory
    cache: StepCache

    def select(self, rows: Tensor) -> Seq2SeqState:
        """These rows of the batch, which may repeat."""
        return Seq2SeqState(self.memory.select(rows), self.cache.select(rows))


def _attention(config: Seq2SeqConfig, layer: int) -> Attention:
    # T5 does not scale its scores: the initialisation of q does.
    return Attention(
        hidden_size=config.d_model, num_heads=config.num_heads, head_dim=config.d_kv, scale=1.0, layer=layer
    )


class Stack(nn.Module):
    """The encoder, or the decoder: blocks, the bias that they share, and a last norm."""

    def __init__(self, config: Seq2SeqConfig, *, decodes: bool) -> None:
        super().__init__()
        self.bias = RelativeBias(
            config.num_heads,
            num_buckets=config.relative_attention_num_buckets,
            max_distance=config.relative_attention_max_distance,
            bidirectional=not decodes,
        )
        kind = GatedFeedForward if config.gated else FeedForward
        self.layers = nn.ModuleList(
            Block(
                _attention(config, layer),
                kind(config.d_model, config.d_ff, config.hidden_act, bias=False),
                lambda: make_norm("rms", config.d_model, config.layer_norm_epsilon),
                cross_attention=_attention(config, layer) if decodes else None,
                dropout=config.dropout_rate,
            )
            for layer in range(config.num_decoder_layers if decodes else config.num_layers)
        )
        self.norm = make_norm("rms", config.d_model, config.layer_norm_epsilon)


class Seq2Seq(nn.Module):
    """An encoder and a decoder that sees what it made. A new one has random weights."""

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout_rate)
        self.encoder, self.decoder = Stack(config, decodes=False), Stack(config, decodes=True)
        self.lm_head = None if config.tie_word_embeddings else nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.reset_parameters()

    @property
    def start_token_id(self) -> int:
        """What a target begins with."""
        return self.config.decoder_start_token_id

    def source_ids(self, ids: Sequence[int]) -> list[int]:
        """A text's ids as a source: it ends with the end token."""
        return [*ids, self.config.eos_token_id]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As published: normal with std 1 for embeddings and E^-1/2 for matrices by their input, D more for q. A
        head of its own is such a matrix: with std 1 its first logits would be far from even."""
        config = self.config
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif "embed_tokens" in name:
                parameter.normal_(0.0, 1.0)
            elif "q_proj" in name:
                parameter.normal_(0.0, (config.d_model * config.d_kv) ** -0.5)
            elif "bias.embedding" in name:
                parameter.normal_(0.0, config.d_model**-0.5)
            else:
                parameter.normal_(0.0, parameter.size(1) ** -0.5)

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, S) ids -> (B, S, E). `attention_mask` (B, S) is 0 at padding, which nothing sees."""
        x, length = self.dropout(self.embed_tokens(input_ids)), input_ids.size(1)
        bias = self.encoder.bias(0, length, length)
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask.bool()[:, None, None, :], torch.finfo(bias.dtype).min)
        for layer in self.encoder.layers:
            x = layer(x, mask=Mask(bias))
        return self.dropout(self.encoder.norm(x))

    def remember(self, hidden: Tensor, attention_mask: Tensor | None = None) -> Memory:
        """What `encode` gave, as the keys and values that every decoding step looks at."""
        kept = EVERYTHING if attention_mask is None else Mask(attention_mask.bool()[:, None, None, :])
        pairs = []
        for layer in self.decoder.layers:
            assert isinstance(layer, Block) and layer.cross_attn is not None
            pairs.append(layer.cross_attn.keys_values(hidden, None))
        return Memory(pairs, kept)

    def decode(self, decoder_input_ids: Tensor, memory: Memory, *, cache: StepCache | None = None) -> Tensor:
        """(B, T) ids after the `cache.length` that a cache holds -> logits (B, T, V); the cache is advanced."""
        start, length = 0 if cache is None else cache.length, decoder_input_ids.size(1)
        total = start + length
        bias = self.decoder.bias(start, length, total)
        later = torch.ones(length, total, dtype=torch.bool, device=bias.device).triu(start + 1)
        mask = Mask(bias.masked_fill(later, -torch.inf))
        x = self.dropout(self.embed_tokens(decoder_input_ids))
        for number, layer in enumerate(self.decoder.layers):
            x = layer(x, mask=mask, cache=cache, memory=memory.keys_values[number], memory_mask=memory.mask)
        if cache is not None:
            cache.length = total
        return self.logits(self.dropout(self.decoder.norm(x)))

    def logits(self, hidden: Tensor) -> Tensor:
        """The decoder's states after its last norm, (..., E), through the output head: (..., V)."""
        if self.config.scale_decoder_outputs:
            hidden = hidden * self.config.d_model**-0.5
        return F.linear(hidden, self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight)

    def forward(self, input_ids: Tensor, decoder_input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) of the target (B, T), which begins with decoder_start_token_id, given the source (B, S)."""
        return self.decode(decoder_input_ids, self.remember(self.encode(input_ids, attention_mask), attention_mask))

    def start(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Seq2SeqState:
        """(B, S) ids -> the state before the first target."""
        return Seq2SeqState(self.remember(self.encode(input_ids, attention_mask), attention_mask), StepCache())

    def step(self, state: Seq2SeqState, token_ids: Tensor) -> tuple[Tensor, Seq2SeqState, None]:
        """One target token (B,) each -> logits (B, V) and the state after it; `state` stays as it is."""
        cache = state.cache.select(slice(None))
        return (
            self.decode(token_ids[:, None], state.memory, cache=cache)[:, -1],
            Seq2SeqState(state.memory, cache),
            None,
        )

    def steps(self, asked: Sequence[tuple[Seq2SeqState, Tensor]]) -> list[tuple[Tensor, Seq2SeqState, None]]:
        """`step` for several states at once, of different lengths and sources: every product of a matrix is one for
        all of their rows, attention is each state's own."""
        sizes = [len(tokens) for _, tokens in asked]
        caches = [state.cache.select(slice(None)) for state, _ in asked]
        own = [Mask(self.decoder.bias(cache.length, 1, cache.length + 1)) for cache in caches]
        x = self.dropout(self.embed_tokens(torch.cat([tokens for _, tokens in asked])[:, None]))
        for number, layer in enumerate(self.decoder.layers):
            assert isinstance(layer, Block) and layer.cross_attn is not None
            assert layer.input_layernorm is not None and layer.cross_attention_layernorm is not None
            y, attention = layer.input_layernorm(x), layer.self_attn
            key, value = attention.keys_values(y, None)
            new = zip(caches, key.split(sizes), value.split(sizes), strict=True)
            seen = [cache.write(number, keys, values) for cache, keys, values in new]
            x = x + _attended(attention, y, seen, own)
            y, attention = layer.cross_attention_layernorm(x), layer.cross_attn
            sources = [state.memory.keys_values[number] for state, _ in asked]
            x = x + _attended(attention, y, sources, [state.memory.mask for state, _ in asked])
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        logits = self.logits(self.decoder.norm(x))[:, -1].split(sizes)
        for cache in caches:
            cache.length += 1
        after = [Seq2SeqState(state.memory, cache) for (state, _), cache in zip(asked, caches, strict=True)]
        return [(rows, state, None) for rows, state in zip(logits, after, strict=True)]

    @torch.inference_mode()
    def greedy(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, max_new_tokens: int
    ) -> list[list[int]]:
        """The most probable token at each step, for each row until its end token, which is not in the result."""
        first = torch.full((input_ids.size(0),), self.config.decoder_start_token_id, device=input_ids.device)
        state, end = self.start(input_ids, attention_mask), self.config.eos_token_id
        found = greedy(self, state, first, eos_token_id=end, max_new_tokens=max_new_tokens)
        return [text.token_ids for text in found]


def _attended(attention: Attention, x: Tensor, seen: Sequence[KeysValues], masks: Sequence[Mask]) -> Tensor:
    """x (N, 1, E), its rows in parts that each see keys and values (n, H, S, D) of their own -> (N, 1, E)."""
    queries = attention.queries(x, None).split([len(keys) for keys, _ in seen])
    parts = [
        attend(query, keys, values, mask, scale=attention.scale, softcap=None)
        for query, (keys, values), mask in zip(queries, seen, masks, strict=True)
    ]
    return attention.o_proj(torch.cat(parts).transpose(1, 2).flatten(2))


def load_seq2seq(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Seq2Seq:
    """An encoder-decoder from a local Hugging Face folder, in evaluation mode. Errors as `load_pretrained`'s.

    transformers 5 writes that every head is tied; a head in the file of a model that does not scale is its own.
    """
    folder = Path(folder)
    config = Seq2SeqConfig.from_hf(read_json(folder / "config.json"))
    if not config.scale_decoder_outputs:
        config = replace(config, tie_word_embeddings=_HEAD not in tensor_names(folder))
    with shapes_only():
        model = Seq2Seq(config)
    tied = {_HEAD: "embed_tokens.weight"} if config.tie_word_embeddings else {}
    load_weights(model, folder, config.names(), tied=tied, ignored=_IGNORED, dtype=dtype, device=device)
    return model


def save_seq2seq(model: Seq2Seq, folder: str | Path) -> None:
    """Write config.json and safetensors that transformers reads."""
    save_weights(model, folder, model.config.names(), model.config.to_hf())
