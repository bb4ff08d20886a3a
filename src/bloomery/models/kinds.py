"""Kinds of model: one table of how each is told by its config.json, read, written, and what it reads.

Loading, import, export and training's results all look here; what is served of a kind is the engine's business. This
module does not know tokenizers or folders' other files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models.classifiers import (
    CLASSIFIER_TYPES,
    ConvImageClassifier,
    ConvTextClassifier,
    MeanTextClassifier,
    load_classifier,
    save_classifier,
)
from bloomery.models.clip import Clip, load_clip, save_clip
from bloomery.models.clip_config import CLIP_TYPES
from bloomery.models.decoder import Decoder
from bloomery.models.decoder_classifier import (
    SUFFIX,
    DecoderClassifier,
    load_decoder_classifier,
    save_decoder_classifier,
)
from bloomery.models.encoder import Encoder, load_encoder, save_encoder
from bloomery.models.encoder_families import ENCODER_FAMILIES
from bloomery.models.families import FAMILIES
from bloomery.models.pretrained import load_pretrained, save_pretrained
from bloomery.models.recurrent import MODEL_TYPE as RECURRENT
from bloomery.models.recurrent import RecurrentSeq2Seq, load_recurrent, save_recurrent
from bloomery.models.seq2seq import Seq2Seq, load_seq2seq, save_seq2seq
from bloomery.models.seq2seq_config import ARCHITECTURES
from bloomery.models.vision import VisionEncoder, load_vision, save_vision
from bloomery.models.vision_families import VISION_FAMILIES
from bloomery.models.vision_language import VisionLanguage, load_vision_language, save_vision_language
from bloomery.models.vision_language_config import MODEL_TYPE as LLAVA
from bloomery.models.weights import read_json

Values = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelKind:
    """One kind. `load(folder, dtype=, device=)` gives one of `classes`, `save(model, folder)` writes config.json and
    safetensors."""

    name: str
    artifact: str
    """The kind of artifact that it becomes: "model" for what writes text, for the latest of these is what is served."""
    matches: Callable[[Values], bool]
    """Whether a config.json describes one."""
    classes: tuple[type[nn.Module], ...]
    load: Callable[..., Any]
    save: Callable[[Any, Path], None]
    reads_text: bool = True
    reads_images: bool = False
    published: bool = True
    """Others read what is written: transformers has such a model."""


def _typed(*names: str) -> Callable[[Values], bool]:
    return lambda values: str(values.get("model_type")) in names


def _has_a_head(values: Values) -> bool:
    named = values.get("architectures")
    first = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    return first.endswith(SUFFIX)


KNOWN_TYPES = tuple(
    sorted({*FAMILIES, *ENCODER_FAMILIES, *CLIP_TYPES, *VISION_FAMILIES, *ARCHITECTURES, RECURRENT, LLAVA})
)
"""Every `model_type` of a config.json that is read, small classifiers aside."""


def _load_decoder(folder: Path, **options: Any) -> Decoder:
    """What is no other kind is taken for a decoder: here it is said what else there would have been."""
    name = read_json(folder / "config.json").get("model_type")
    if name not in FAMILIES:
        raise ConfigError(f"unsupported model_type {name!r:.60}", hint=nearest(str(name), KNOWN_TYPES))
    return load_pretrained(folder, **options)


_IMAGE_CLASSIFIER = "bloomery_conv_image"

KINDS: tuple[ModelKind, ...] = (
    ModelKind(
        name="encoder",
        artifact="encoder",
        matches=_typed(*ENCODER_FAMILIES),
        classes=(Encoder,),
        load=load_encoder,
        save=save_encoder,
    ),
    ModelKind(
        name="image-text",
        artifact="image-text",
        matches=_typed(*CLIP_TYPES),
        classes=(Clip,),
        load=load_clip,
        save=save_clip,
        reads_images=True,
    ),
    ModelKind(
        name="image-encoder",
        artifact="image-encoder",
        matches=_typed(*VISION_FAMILIES),
        classes=(VisionEncoder,),
        load=load_vision,
        save=save_vision,
        reads_text=False,
        reads_images=True,
    ),
    ModelKind(
        name="seq2seq",
        artifact="seq2seq",
        matches=_typed(*ARCHITECTURES),
        classes=(Seq2Seq,),
        load=load_seq2seq,
        save=save_seq2seq,
    ),
    ModelKind(
        name="recurrent",
        artifact="seq2seq",
        matches=_typed(RECURRENT),
        classes=(RecurrentSeq2Seq,),
        load=load_recurrent,
        save=save_recurrent,
        published=False,
    ),
    ModelKind(
        name="vision-language",
        artifact="model",
        matches=_typed(LLAVA),
        classes=(VisionLanguage,),
        load=load_vision_language,
        save=save_vision_language,
        reads_images=True,
    ),
    ModelKind(
        name="image-classifier",
        artifact="classifier",
        matches=_typed(_IMAGE_CLASSIFIER),
        classes=(ConvImageClassifier,),
        load=load_classifier,
        save=save_classifier,
        reads_text=False,
        reads_images=True,
        published=False,
    ),
    ModelKind(
        name="text-classifier",
        artifact="classifier",
        matches=_typed(*(kind for kind in CLASSIFIER_TYPES if kind != _IMAGE_CLASSIFIER)),
        classes=(MeanTextClassifier, ConvTextClassifier),
        load=load_classifier,
        save=save_classifier,
        published=False,
    ),
    ModelKind(
        name="decoder-classifier",
        artifact="classifier",
        matches=_has_a_head,
        classes=(DecoderClassifier,),
        load=load_decoder_classifier,
        save=save_decoder_classifier,
    ),
    ModelKind(
        name="decoder",
        artifact="model",
        matches=lambda values: True,
        classes=(Decoder,),
        load=_load_decoder,
        save=save_pretrained,
    ),
)
"""In the order in which they are asked; what no other is, is a decoder, whose reader knows what it cannot read."""


def kind_of(values: Values) -> ModelKind:
    """The kind that a config.json describes."""
    return next(kind for kind in KINDS if kind.matches(values))


def kind_of_model(model: nn.Module) -> ModelKind:
    """The kind of a model that is there."""
    return next(kind for kind in KINDS if isinstance(model, kind.classes))
