"""Building models that see pictures: two towers, a decoder that is shown pictures, classifiers.

This module does not know data, losses or steps, nor models of text alone (see `building`).
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from torch import nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models import ModelConfig
from bloomery.models.classifiers import ConvImageClassifier, ConvImageConfig
from bloomery.models.clip import Clip, load_clip
from bloomery.models.clip_config import CLIP_TYPES, ClipConfig, TextTowerConfig
from bloomery.models.image_processor import ImageProcessor
from bloomery.models.vision import VisionEncoder, load_vision
from bloomery.models.vision_config import VisionConfig
from bloomery.models.vision_families import VISION_FAMILIES
from bloomery.models.vision_language import VisionLanguage, load_vision_language
from bloomery.models.vision_language_config import MODEL_TYPE as LLAVA
from bloomery.models.vision_language_config import VisionLanguageConfig
from bloomery.models.weights import read_json
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import NetConfig, decoder_config, padding, thawed

PICTURE_FAMILIES = {
    "contrastive": ("clip", "siglip"),
    "captions": ("llava",),
    "classes": ("vit", "conv"),
    "values": ("vit", "conv"),
}
"""The families that each objective can train on pictures; the first is the default."""


def build_seeing(
    objective: str, net: NetConfig, tokenizer: Tokenizer | None, *, context_length: int, num_labels: int = 2
) -> nn.Module:
    """A model with random weights for an objective on pictures of `net.image_size`. ConfigError for a family that does
    not fit it, and for a tokenizer without the tokens that it needs."""
    known = PICTURE_FAMILIES[objective]
    family = net.family or known[0]
    if family not in known:
        raise ConfigError(f"{family!r} cannot be trained as {objective!r} on pictures", hint=nearest(family, known))
    if family == "conv":
        return ConvImageClassifier(ConvImageConfig(num_labels=num_labels, dropout=net.dropout))
    if family == "vit":
        return VisionEncoder(_vision(net, "vit", head="classes", num_labels=num_labels))
    if tokenizer is None:
        raise ConfigError(f"{objective} needs a tokenizer")
    if family == LLAVA:
        return VisionLanguage(_llava(net, tokenizer, context_length))
    return Clip(_clip(family, net, tokenizer, context_length))


def rebuild_seeing(objective: str, folder: Path, *, num_labels: int = 2) -> nn.Module:
    """A model that is there; a ViT gets a new head where its number of classes differs."""
    kind = str(read_json(folder / "config.json").get("model_type"))
    if objective == "contrastive" and kind in CLIP_TYPES:
        return thawed(load_clip(folder))
    if objective == "captions" and kind == LLAVA:
        return thawed(load_vision_language(folder))
    if objective in ("classes", "values") and kind in VISION_FAMILIES:
        encoder = load_vision(folder)
        if kind == "vit" and encoder.config.head == "classes" and encoder.config.num_labels == num_labels:
            return thawed(encoder)
        if kind == "vit":
            made = VisionEncoder(dataclasses.replace(encoder.config, head="classes", num_labels=num_labels))
            wanted = {name: tuple(value.shape) for name, value in made.state_dict().items()}
            shared = {k: v for k, v in encoder.state_dict().items() if wanted.get(k) == tuple(v.shape)}
            made.load_state_dict({k: v for k, v in shared.items() if not k.startswith("classifier")}, strict=False)
            return thawed(made)
    raise ConfigError(
        f"a {kind!r:.40} cannot be trained as {objective!r} on pictures",
        hint=f"it trains {', '.join(PICTURE_FAMILIES[objective])}",
    )


def image_size(model: nn.Module, net: NetConfig) -> int:
    """The height and width of the pictures that a model reads; ConfigError where they are not square."""
    if isinstance(model, ConvImageClassifier):
        return net.image_size
    config: Any = model.config
    vision = config if isinstance(config, VisionConfig) else config.vision_config
    height, width = vision.image_shape
    if height != width:
        raise ConfigError(f"this model reads pictures of {height} x {width}: only square ones are trained")
    return height


def processor(size: int) -> ImageProcessor:
    """What makes a picture of any size what the model was trained on: shorter edge scaled, middle kept."""
    return ImageProcessor(
        image_processor_type="CLIPImageProcessor",
        size={"shortest_edge": size},
        do_center_crop=True,
        crop_size={"height": size, "width": size},
    )


def _sizes(net: NetConfig) -> dict[str, Any]:
    return {
        "hidden_size": net.hidden_size,
        "intermediate_size": net.width(gated=False),
        "num_hidden_layers": net.num_hidden_layers,
        "num_attention_heads": net.heads(),
    }


def _vision(net: NetConfig, kind: str, **options: Any) -> VisionConfig:
    if net.image_size % net.patch_size:
        raise ConfigError(f"image_size {net.image_size} is not a multiple of patch_size {net.patch_size}")
    return VisionConfig(model_type=kind, image_size=net.image_size, patch_size=net.patch_size, **_sizes(net), **options)


def _clip(family: str, net: NetConfig, tokenizer: Tokenizer, context_length: int) -> ClipConfig:
    joined = family == "clip"
    end = tokenizer.eos_ids[0] if tokenizer.eos_ids else None
    if joined and (end is None or end == tokenizer.bos_id):
        raise ConfigError(
            "a text's vector stands at its end token, which this tokenizer begins texts with, or lacks",
            hint="train one with --set tokenizer.encloses=true",
        )
    text = TextTowerConfig(
        **_sizes(net),
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=context_length,
        pad_token_id=padding(tokenizer),
        bos_token_id=tokenizer.bos_id,
        eos_token_id=end,
        projection_size=None if joined else net.hidden_size,
    )
    vision = _vision(net, "clip_vision_model" if joined else "siglip_vision_model")
    scale = {"logit_scale_init_value": math.log(_first_scale(net.hidden_size))} if joined else {}
    return ClipConfig(
        model_type=family, text_config=text, vision_config=vision, projection_dim=net.hidden_size, **scale
    )


def _first_scale(width: int) -> float:
    """Cosines of random vectors have variance 1 / width, so a scale s costs up to s^2 / (2 width) nats over ln(batch)
    before anything is learnt: with the published 1/.07 a nat and more in a narrow model. This holds it at 1/16."""
    return min(1 / 0.07, math.sqrt(width / 8))


def _llava(net: NetConfig, tokenizer: Tokenizer, context_length: int) -> VisionLanguageConfig:
    if tokenizer.image_id is None:
        raise ConfigError(
            "this tokenizer has no token that stands for a picture", hint="train one with --set tokenizer.images=true"
        )
    vision = _vision(net, "clip_vision_model")
    text: ModelConfig = decoder_config("llama", net, tokenizer, context_length + vision.num_positions)
    return VisionLanguageConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.image_id,
        # The last layer's vectors: a tower that is trained here has no classification task to forget.
        vision_feature_layer=-1,
    )
