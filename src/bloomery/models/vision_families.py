"""Vision families: ViT and the image towers of CLIP and SigLIP as short descriptions, and how their files name tensors.

Dosovitskiy et al., arXiv 2010.11929; Radford et al., arXiv 2103.00020; Zhai et al., arXiv 2303.15343. This module does
not know tensors' values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bloomery.core.errors import ConfigError, nearest
from bloomery.models.naming import Rule, renamed, stacked

if TYPE_CHECKING:
    from bloomery.models.vision_config import VisionConfig


@dataclass(frozen=True, kw_only=True)
class VisionFamily:
    """`architecture` is the stem of its classes' names, `prefix` what a file with a head puts before the names."""

    model_type: str
    architecture: str
    prefix: str
    defaults: Mapping[str, Any]
    rules: Callable[[VisionConfig, str], Iterator[Rule]]
    fields: frozenset[str]
    """Keys that its config.json has beside those that all three have."""
    cls_token: bool = True
    """A learned vector stands before the patches."""
    patch_bias: bool = True
    norm_before: bool = False
    """A norm stands before the first layer (CLIP)."""
    norm_of_pooled: bool = False
    """The last norm is for the pooled vector only; hidden states come without it (CLIP)."""
    any_shape: bool = False
    """image_size and patch_size may be pairs."""


def reshaped(theirs: str, ours: str, leading: int) -> Rule:
    """The same tensor with `leading` dimensions of size one in front."""

    def read(tensor: Tensor) -> list[Tensor]:
        return [tensor.reshape(tensor.shape[leading:])]

    return Rule(theirs, (ours,), read, lambda parts: parts[0][(None,) * leading])


def both(theirs: str, ours: str) -> Iterator[Rule]:
    """The rules of a weight and its bias."""
    for part in ("weight", "bias"):
        yield renamed(f"{theirs}.{part}", f"{ours}.{part}")


def prefixed(rules: Iterator[Rule], theirs: str, ours: str) -> Iterator[Rule]:
    """The rules of a part, as rules of the whole that has it under these prefixes."""
    for rule in rules:
        yield Rule(theirs + rule.theirs, tuple(ours + name for name in rule.ours), rule.read, rule.write)


def clip_layer_rules(prefix: str, layers: int) -> Iterator[Rule]:
    """Layers as CLIP and SigLIP name them, in either tower."""
    for layer in range(layers):
        theirs, ours = f"{prefix}encoder.layers.{layer}", f"layers.{layer}"
        for old, new in (
            ("self_attn.q_proj", "self_attn.q_proj"),
            ("self_attn.k_proj", "self_attn.k_proj"),
            ("self_attn.v_proj", "self_attn.v_proj"),
            ("self_attn.out_proj", "self_attn.o_proj"),
            ("layer_norm1", "input_layernorm"),
            ("layer_norm2", "post_attention_layernorm"),
            ("mlp.fc1", "mlp.up_proj"),
            ("mlp.fc2", "mlp.down_proj"),
        ):
            yield from both(f"{theirs}.{old}", f"{ours}.{new}")


def _clip_rules(config: VisionConfig, prefix: str) -> Iterator[Rule]:
    yield renamed(f"{prefix}embeddings.class_embedding", "cls_token")
    yield from both(f"{prefix}embeddings.patch_embedding", "embed_patches")
    yield renamed(f"{prefix}embeddings.position_embedding.weight", "embed_positions.weight")
    yield from both(f"{prefix}pre_layrnorm", "embed_norm")  # the name is misspelt in every published file
    yield from both(f"{prefix}post_layernorm", "norm")
    yield from clip_layer_rules(prefix, config.num_hidden_layers)
    if config.head == "projection":
        yield renamed("visual_projection.weight", "projection.weight")


def _siglip_rules(config: VisionConfig, prefix: str) -> Iterator[Rule]:
    yield from both(f"{prefix}embeddings.patch_embedding", "embed_patches")
    yield renamed(f"{prefix}embeddings.position_embedding.weight", "embed_positions.weight")
    yield from both(f"{prefix}post_layernorm", "norm")
    yield from clip_layer_rules(prefix, config.num_hidden_layers)
    yield reshaped(f"{prefix}head.probe", "pooler.probe", 2)
    for theirs, part in (("in_proj_weight", "weight"), ("in_proj_bias", "bias")):
        names = [f"pooler.attention.{name}.{part}" for name in ("q_proj", "k_proj", "v_proj")]
        yield stacked(f"{prefix}head.attention.{theirs}", names, (config.hidden_size,) * 3)
    for old, new in (
        ("attention.out_proj", "attention.o_proj"),
        ("layernorm", "norm"),
        ("mlp.fc1", "mlp.up_proj"),
        ("mlp.fc2", "mlp.down_proj"),
    ):
        yield from both(f"{prefix}head.{old}", f"pooler.{new}")


def _vit_rules(config: VisionConfig, prefix: str) -> Iterator[Rule]:
    yield reshaped(f"{prefix}embeddings.cls_token", "cls_token", 2)
    yield reshaped(f"{prefix}embeddings.position_embeddings", "embed_positions.weight", 1)
    yield from both(f"{prefix}embeddings.patch_embeddings.projection", "embed_patches")
    yield from both(f"{prefix}layernorm", "norm")
    yield from both(f"{prefix}pooler.dense", "pooler.dense")
    for layer in range(config.num_hidden_layers):
        theirs, ours = f"{prefix}encoder.layer.{layer}", f"layers.{layer}"
        for old, new in (
            ("attention.attention.query", "self_attn.q_proj"),
            ("attention.attention.key", "self_attn.k_proj"),
            ("attention.attention.value", "self_attn.v_proj"),
            ("attention.output.dense", "self_attn.o_proj"),
            ("layernorm_before", "input_layernorm"),
            ("layernorm_after", "post_attention_layernorm"),
            ("intermediate.dense", "mlp.up_proj"),
            ("output.dense", "mlp.down_proj"),
        ):
            yield from both(f"{theirs}.{old}", f"{ours}.{new}")


_BASE: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
}
VISION_FAMILIES: dict[str, VisionFamily] = {
    family.model_type: family
    for family in (
        VisionFamily(
            model_type="vit",
            architecture="ViT",
            prefix="vit.",
            rules=_vit_rules,
            any_shape=True,
            fields=frozenset({"qkv_bias", "initializer_range", "pooler_output_size", "pooler_act"}),
            defaults={**_BASE, "hidden_act": "gelu", "layer_norm_eps": 1e-12},
        ),
        VisionFamily(
            model_type="clip_vision_model",
            architecture="CLIPVision",
            prefix="vision_model.",
            rules=_clip_rules,
            patch_bias=False,
            norm_before=True,
            norm_of_pooled=True,
            fields=frozenset({"initializer_range", "projection_dim"}),
            defaults={
                **_BASE,
                "patch_size": 32,
                "hidden_act": "quick_gelu",
                "layer_norm_eps": 1e-5,
                "projection_dim": 512,
            },
        ),
        VisionFamily(
            model_type="siglip_vision_model",
            architecture="SiglipVision",
            prefix="vision_model.",
            rules=_siglip_rules,
            cls_token=False,
            fields=frozenset({"vision_use_head"}),
            defaults={**_BASE, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
        ),
    )
}


def vision_family_of(model_type: object) -> VisionFamily:
    """The family of a `model_type`; ConfigError with the nearest known one."""
    family = VISION_FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ConfigError(f"unsupported model_type {model_type!r:.60}", hint=nearest(str(model_type), VISION_FAMILIES))
    return family
