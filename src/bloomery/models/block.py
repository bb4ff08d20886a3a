"""The one block: attention and feed-forward on a residual stream, with the norms where a family puts them.

Placements: "pre" x + f(norm(x)) (GPT-2, Llama, T5, ViT); "post" norm(x + f(x)) (BERT; Vaswani et al. 2017);
"output" x + norm(f(x)) (OLMo 2); "both" x + norm(f(norm(x))) (Gemma 2 and 3). `parallel` adds attention and
feed-forward of the same input (GPT-NeoX). Shapes: B batch, T length, E hidden_size. This module does not know
families, nor what attention sees.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.models.attention import EVERYTHING, Attention, Cache, Mask, RaggedCache, Tables

PLACEMENTS = ("pre", "post", "output", "both")


class Block(nn.Module):
    """One layer. Norms bear Hugging Face's names: input_layernorm before attention, post_attention_layernorm after it
    (or, for "pre", before the feed-forward), pre_feedforward_layernorm, post_feedforward_layernorm."""

    def __init__(
        self,
        attention: Attention,
        feed_forward: nn.Module,
        norm: Callable[[], nn.Module],
        *,
        placement: str = "pre",
        parallel: bool = False,
        cross_attention: Attention | None = None,
        dropout: float = 0.0,
    ) -> None:
        """`cross_attention` stands between the two and is placed as they are; "pre" and "post" only. `dropout` is the
        share of what each part adds that is zeroed in training.

        ConfigError for combinations that no family has: parallel other than "pre", cross attention with "output"
        or "both".
        """
        super().__init__()
        if placement not in PLACEMENTS:
            raise ConfigError(f"unknown norm placement {placement!r}", hint="known: " + ", ".join(PLACEMENTS))
        if (parallel and placement != "pre") or (cross_attention is not None and placement in ("output", "both")):
            raise ConfigError(f"a block with placement {placement!r} cannot be parallel or have cross attention")
        self.placement, self.parallel = placement, parallel
        self.dropout = nn.Dropout(dropout)
        self.self_attn = attention
        self.mlp = feed_forward
        before = placement in ("pre", "both")
        self.input_layernorm = norm() if before else None
        self.post_attention_layernorm = norm()
        self.cross_attn = cross_attention
        self.cross_attention_layernorm = norm() if cross_attention is not None else None
        self.pre_feedforward_layernorm = norm() if placement == "both" else None
        self.post_feedforward_layernorm = norm() if placement != "pre" else None

    def forward(
        self,
        x: Tensor,
        *,
        mask: Mask = EVERYTHING,
        tables: Tables | None = None,
        cache: Cache | RaggedCache | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
        memory_mask: Mask = EVERYTHING,
        value_embeds: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, E) -> (B, T, E); `memory` is the keys and values for cross attention, which see all of it but
        what `memory_mask` hides; `value_embeds` are for self attention (`Attention.keys_values`)."""

        def attend(y: Tensor) -> Tensor:
            return self.dropout(self.self_attn(y, mask=mask, tables=tables, cache=cache, value_embeds=value_embeds))

        def cross(y: Tensor) -> Tensor:
            assert self.cross_attn is not None
            return self.dropout(self.cross_attn(y, memory=memory, mask=memory_mask))

        def feed(y: Tensor) -> Tensor:
            return self.dropout(self.mlp(y))

        if self.parallel:
            assert self.input_layernorm is not None
            return x + attend(self.input_layernorm(x)) + feed(self.post_attention_layernorm(x))
        if self.placement == "pre":  # the name of the second norm tells where it stands, not what it follows
            x = x + attend(_through(self.input_layernorm, x))
            if self.cross_attn is not None:
                x = x + cross(_through(self.cross_attention_layernorm, x))
            return x + feed(self.post_attention_layernorm(x))
        if self.placement == "post":
            x = self.post_attention_layernorm(x + attend(x))
            if self.cross_attn is not None:
                x = _through(self.cross_attention_layernorm, x + cross(x))
            return _through(self.post_feedforward_layernorm, x + feed(x))
        x = x + self.post_attention_layernorm(attend(_through(self.input_layernorm, x)))
        return x + _through(self.post_feedforward_layernorm, feed(_through(self.pre_feedforward_layernorm, x)))


def _through(norm: nn.Module | None, x: Tensor) -> Tensor:
    return x if norm is None else norm(x)
