"""The image encoder: ViT and the image towers of CLIP and SigLIP are this one module under a different config.

An image is cut into patches, each a vector by one convolution (Dosovitskiy et al., arXiv 2010.11929); positions are
learned; attention and block are the decoder's. A vector of the image is the first token's (ViT, CLIP) or what a learned
query attends to (SigLIP, arXiv 2303.15343). Shapes: B batch, C channels, T patches and class token, E hidden_size.
This module does not know how files become pixels (see `image_processor`), nor texts.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, RequestError
from bloomery.models.attention import Attention
from bloomery.models.block import Block
from bloomery.models.feed_forward import FeedForward, activation
from bloomery.models.norms import make_norm
from bloomery.models.outline import shapes_only
from bloomery.models.vision_config import TowerConfig, VisionConfig
from bloomery.models.weights import load_weights, read_json, save_weights, tensor_names

IGNORED = r".*\.position_ids"
"""What older files keep though it follows from the config."""


def tower_block(config: TowerConfig, layer: int, *, qkv_bias: bool = True) -> Block:
    """A layer of a tower, of images or of text."""
    return Block(
        _attention(config, qkv_bias=qkv_bias, layer=layer),
        FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act, bias=True),
        lambda: make_norm("layer", config.hidden_size, config.layer_norm_eps),
        placement="pre",
    )


def _attention(config: TowerConfig, *, qkv_bias: bool = True, layer: int = 0) -> Attention:
    return Attention(
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        head_dim=config.head_dim,
        qkv_bias=qkv_bias,
        output_bias=True,
        layer=layer,
    )


def reset_like_clip(tower: nn.Module, config: TowerConfig) -> None:
    """The random weights that CLIP's towers began with (arXiv 2103.00020, section 2.4, and the code published with it).

    Normal, of std E^-1/2 for what reads the stream, (2E)^-1/2 for the feed-forward's first matrix, and, as in GPT-2,
    less by (2 layers)^1/2 for what writes into the stream. Ones for norms, zeros for biases.
    """
    width = config.hidden_size**-0.5
    writes = width * (2 * config.num_hidden_layers) ** -0.5
    for name, parameter in tower.named_parameters():
        kind = name.removesuffix(".weight").rpartition(".")[2]
        if name == "embed_patches.weight":
            parameter.normal_(0.0, parameter[0].numel() ** -0.5)
        elif kind in ("o_proj", "down_proj"):
            parameter.normal_(0.0, writes)
        elif kind == "up_proj":
            parameter.normal_(0.0, width * 2**-0.5)
        elif kind == "embed_tokens":
            parameter.normal_(0.0, config.initializer_range)
        elif parameter.ndim > 1 or name.endswith(("cls_token", "probe")):
            parameter.normal_(0.0, width)
        else:
            parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)


class DensePooler(nn.Module):
    """act(dense(first token)): (B, T, E) -> (B, pooler_output_size), ViT's."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.pooler_output_size or config.hidden_size)
        self.act = activation(config.pooler_act)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.act(self.dense(hidden[:, 0]))


class AttentionPooler(nn.Module):
    """One learned query attends to all patches, and a feed-forward follows: (B, T, E) -> (B, E), SigLIP's."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(config.hidden_size))
        self.attention = _attention(config)
        self.norm = make_norm("layer", config.hidden_size, config.layer_norm_eps)
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_act, bias=True)

    def forward(self, hidden: Tensor) -> Tensor:
        query = self.probe.expand(hidden.size(0), 1, -1)
        x = self.attention(query, memory=self.attention.keys_values(hidden, None))
        return (x + self.mlp(self.norm(x)))[:, 0]


class VisionEncoder(nn.Module):
    """An image encoder with the head that its config names. A new one has random weights."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        family, size = config.family, config.hidden_size
        patch = config.patch_shape
        self.embed_patches = nn.Conv2d(config.num_channels, size, patch, stride=patch, bias=family.patch_bias)
        self.cls_token = nn.Parameter(torch.zeros(size)) if family.cls_token else None
        self.embed_positions = nn.Embedding(config.num_positions, size)
        self.embed_norm = make_norm("layer", size, config.layer_norm_eps) if family.norm_before else None
        layers = range(config.num_hidden_layers)
        self.layers = nn.ModuleList(tower_block(config, n, qkv_bias=config.qkv_bias) for n in layers)
        self.norm = make_norm("layer", size, config.layer_norm_eps)
        self.pooler: nn.Module | None = None
        if config.head == "pooler":
            self.pooler = DensePooler(config)
        elif config.model_type == "siglip_vision_model" and config.vision_use_head:
            self.pooler = AttentionPooler(config)
        self.projection = nn.Linear(size, config.projection_dim, bias=False) if config.head == "projection" else None
        self.classifier = nn.Linear(size, config.num_labels) if config.head == "classes" else None
        self.reset_parameters()

    @property
    def output_size(self) -> int:
        """Width of what `forward` gives."""
        config = self.config
        heads = {"projection": config.projection_dim, "classes": config.num_labels}
        pooled = config.pooler_output_size or config.hidden_size
        return heads.get(config.head, pooled if config.head == "pooler" else config.hidden_size)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """CLIP's for CLIP and SigLIP; for ViT normal weights of std initializer_range, cut off at two of them."""
        if self.config.model_type != "vit":
            reset_like_clip(self, self.config)
            return
        std = self.config.initializer_range
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 or name == "cls_token":
                nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std)
            else:
                parameter.fill_(1.0 if name.endswith("norm.weight") else 0.0)

    def hidden_states(self, pixel_values: Tensor) -> Tensor:
        """(B, C, height, width) -> (B, T, E): the last layer's, normalised but for CLIP, whose last norm is for the
        pooled vector alone. RequestError for images of another size than the config's."""
        x = self.layer_states(pixel_values, (-1,))[0]
        return x if self.config.family.norm_of_pooled else self.norm(x)

    def layer_states(self, pixel_values: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """What went into the first layer (0), came out of it (1), ... or out of the last (-1), (B, T, E) each, before
        the last norm. RequestError for a layer that there is not."""
        count = self.config.num_hidden_layers + 1
        if odd := [layer for layer in layers if not -count <= layer < count]:
            raise RequestError(f"there is no layer {odd[0]} of {count - 1}", param="layers")
        wanted = [layer % count for layer in layers]
        states: dict[int, Tensor] = {}
        x = self._embed(pixel_values)
        for number in range(max(wanted, default=0) + 1):
            if number:
                x = self.layers[number - 1](x)
            if number in wanted:
                states[number] = x
        return [states[number] for number in wanted]

    def forward(self, pixel_values: Tensor) -> Tensor:
        """What the head says of (B, C, height, width): logits (B, num_labels), projections (B, projection_dim), or the
        pooled vector (B, E). ConfigError for an encoder that pools nothing."""
        hidden = self.hidden_states(pixel_values)
        if self.classifier is not None:
            return self.classifier(hidden[:, 0])
        if self.pooler is not None:
            return self.pooler(hidden)
        if not self.config.family.norm_of_pooled:
            raise ConfigError("this encoder has no pooled vector", hint="use its hidden states")
        pooled = self.norm(hidden[:, 0])
        return pooled if self.projection is None else self.projection(pooled)

    def _embed(self, pixel_values: Tensor) -> Tensor:
        shape = (self.config.num_channels, *self.config.image_shape)
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != shape:
            expected = ", ".join(str(size) for size in shape)
            raise RequestError(
                f"images have shape (B, {expected}), not {tuple(pixel_values.shape)}", param="pixel_values"
            )
        x = self.embed_patches(pixel_values.to(self.embed_patches.weight.dtype)).flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.size(0), 1, -1), x], dim=1)
        x = x + self.embed_positions.weight
        return x if self.embed_norm is None else self.embed_norm(x)


def load_vision(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> VisionEncoder:
    """An image encoder from a local Hugging Face folder, in evaluation mode, with the head that config.json names.

    A ViT whose file has no pooler comes without one. Errors as `load_pretrained`'s.
    """
    folder = Path(folder)
    config = VisionConfig.from_hf(read_json(folder / "config.json"))
    if config.head == "pooler" and not any(name.endswith("pooler.dense.weight") for name in tensor_names(folder)):
        config = dataclasses.replace(config, head="none")
    with shapes_only():
        encoder = VisionEncoder(config)
    ignored = IGNORED + (r"|(vit\.)?pooler\..*" if config.head == "classes" else "")
    load_weights(encoder, folder, config.names(), ignored=re.compile(f"({ignored})$"), dtype=dtype, device=device)
    return encoder


def save_vision(encoder: VisionEncoder, folder: str | Path) -> None:
    """Write config.json and safetensors that transformers reads."""
    save_weights(encoder, folder, encoder.config.names(), encoder.config.to_hf())
