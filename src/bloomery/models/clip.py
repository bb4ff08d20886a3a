"""The two-tower model of images and texts: CLIP and SigLIP are this one module under a different config.

An image encoder and a text encoder whose vectors meet in one space, where the cosine, scaled, says how well a text fits
an image (Radford et al., arXiv 2103.00020; with a bias for the sigmoid loss, Zhai et al., arXiv 2303.15343). Shapes:
B batch, N texts, T tokens, E hidden_size, P the width where they meet. This module does not know losses (see the floor
`training`), tokenizers or how files become pixels (see `image_processor`).
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import RequestError
from bloomery.models.attention import EVERYTHING, Mask
from bloomery.models.clip_config import LEGACY_EOS, ClipConfig, TextTowerConfig
from bloomery.models.norms import make_norm
from bloomery.models.outline import shapes_only
from bloomery.models.vision import IGNORED, VisionEncoder, reset_like_clip, tower_block
from bloomery.models.weights import load_weights, read_json, save_weights


class TextTower(nn.Module):
    """A text encoder: causal for CLIP, bidirectional with a last linear layer for SigLIP."""

    def __init__(self, config: TextTowerConfig, *, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        size = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, size)
        self.layers = nn.ModuleList(tower_block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = make_norm("layer", size, config.layer_norm_eps)
        self.head = None if causal else nn.Linear(size, config.projection_size or size)

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, T, E). `attention_mask` (B, T) is 0 at padding, which nothing sees. RequestError for more
        tokens than the context."""
        length, context = input_ids.size(1), self.config.max_position_embeddings
        if length > context:
            raise RequestError(
                f"{length:,} tokens are more than the model's context of {context:,}", code="context_length_exceeded"
            )
        x = self.embed_tokens(input_ids) + self.embed_positions.weight[:length]
        mask = self._mask(length, attention_mask)
        for layer in self.layers:
            x = layer(x, mask=mask)
        return self.norm(x)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """A vector (B, E) of each text: the hidden state of its end token (CLIP), or of its last token, which may be
        padding, through the head (SigLIP)."""
        hidden = self.hidden_states(input_ids, attention_mask)
        if self.head is not None:
            return self.head(hidden[:, -1])
        # The highest id, or the first end token: a text without one gives its first token's, as in the reference.
        legacy = self.config.eos_token_id == LEGACY_EOS
        ends = input_ids if legacy else (input_ids == self.config.eos_token_id).int()
        return hidden[torch.arange(hidden.size(0), device=hidden.device), ends.argmax(dim=-1)]

    def _mask(self, length: int, attention_mask: Tensor | None) -> Mask:
        if attention_mask is None:
            return Mask(causal=True) if self.causal else EVERYTHING
        seen = attention_mask.bool()[:, None, None, :]
        if not self.causal:
            return Mask(seen)
        before = torch.ones(length, length, dtype=torch.bool, device=seen.device).tril()
        seen = seen & before
        return Mask(seen | ~seen.any(dim=-1, keepdim=True))  # padding in front sees nothing: it has no softmax


class Clip(nn.Module):
    """A model of images and texts. A new one has random weights (see `reset_parameters`)."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        joined = config.model_type == "clip"
        self.vision_model = VisionEncoder(config.vision_config)
        self.text_model = TextTower(config.text_config, causal=joined)
        size, vision, text = config.projection_dim, config.vision_config.hidden_size, config.text_config.hidden_size
        self.visual_projection = nn.Linear(vision, size, bias=False) if joined else None
        self.text_projection = nn.Linear(text, size, bias=False) if joined else None
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.logit_bias = None if joined else nn.Parameter(torch.zeros(()))
        self.reset_parameters()

    @property
    def context_length(self) -> int:
        """Tokens that it can read at once."""
        return self.config.text_config.max_position_embeddings

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """CLIP's random weights for both towers (see `reset_like_clip`) and normal projections of std E^-1/2. The
        scale begins at 1 / 0.07 for CLIP, at 10 with a bias of -10 for SigLIP. Uses PyTorch's global generator."""
        reset_like_clip(self.vision_model, self.config.vision_config)
        reset_like_clip(self.text_model, self.config.text_config)
        for projection in (self.visual_projection, self.text_projection):
            if projection is not None:
                projection.weight.normal_(0.0, projection.in_features**-0.5)
        if self.logit_bias is None:
            self.logit_scale.fill_(self.config.logit_scale_init_value)
        else:
            self.logit_scale.fill_(math.log(10.0))
            self.logit_bias.fill_(-10.0)

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """(B, C, height, width) -> (B, P), not scaled to length one."""
        pooled = self.vision_model(pixel_values)
        return pooled if self.visual_projection is None else self.visual_projection(pooled)

    def text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(N, T) ids -> (N, P), not scaled to length one; `attention_mask` (N, T) is 0 at padding."""
        pooled = self.text_model(input_ids, attention_mask)
        return pooled if self.text_projection is None else self.text_projection(pooled)

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        """Features (B, P) and (N, P) -> logits (B, N): the cosine, scaled, and with SigLIP's bias."""
        logits = F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).t() * self.logit_scale.exp()
        return logits if self.logit_bias is None else logits + self.logit_bias

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """logits_per_image (B, N) of images (B, C, height, width) and texts (N, T); a softmax (CLIP) or a sigmoid
        (SigLIP) makes them probabilities."""
        texts = self.text_features(input_ids, attention_mask)
        return self.similarity(self.image_features(pixel_values), texts)


def load_clip(folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Clip:
    """CLIP or SigLIP from a local Hugging Face folder, in evaluation mode. Errors as `load_pretrained`'s."""
    folder = Path(folder)
    config = ClipConfig.from_hf(read_json(folder / "config.json"))
    with shapes_only():
        model = Clip(config)
    load_weights(model, folder, config.names(), ignored=re.compile(f"({IGNORED})$"), dtype=dtype, device=device)
    return model


def save_clip(model: Clip, folder: str | Path) -> None:
    """Write config.json and safetensors that transformers reads."""
    save_weights(model, folder, model.config.names(), model.config.to_hf())
