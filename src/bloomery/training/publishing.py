"""Publishing: each kind of model written as the files that read it back, and the kind of artifact that it becomes.

This module does not know how models are trained, nor where their folders lie.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from bloomery.models import Decoder, save_pretrained
from bloomery.models.classifiers import ConvImageClassifier, ConvTextClassifier, MeanTextClassifier, save_classifier
from bloomery.models.clip import Clip, save_clip
from bloomery.models.decoder_classifier import DecoderClassifier, save_decoder_classifier
from bloomery.models.encoder import Encoder, save_encoder
from bloomery.models.recurrent import RecurrentSeq2Seq, save_recurrent
from bloomery.models.seq2seq import Seq2Seq, save_seq2seq
from bloomery.models.vision import VisionEncoder, save_vision
from bloomery.models.vision_language import VisionLanguage, save_vision_language

_KINDS: tuple[tuple[type[nn.Module], str, Callable[[Any, Path], None]], ...] = (
    (Decoder, "model", save_pretrained),
    (VisionLanguage, "model", save_vision_language),
    (Encoder, "encoder", save_encoder),
    (Seq2Seq, "seq2seq", save_seq2seq),
    (RecurrentSeq2Seq, "seq2seq", save_recurrent),
    (Clip, "image-text", save_clip),
    (VisionEncoder, "image-encoder", save_vision),
    (DecoderClassifier, "classifier", save_decoder_classifier),
    (MeanTextClassifier, "classifier", save_classifier),
    (ConvTextClassifier, "classifier", save_classifier),
    (ConvImageClassifier, "classifier", save_classifier),
)


def save_model(model: nn.Module, folder: Path, *, labels: Sequence[str] = ()) -> str:
    """Write config.json and safetensors; returns the kind of artifact. `labels` name a head's classes where the
    format has a place for them."""
    kind, save = next((kind, save) for known, kind, save in _KINDS if isinstance(model, known))
    if labels and isinstance(model, Encoder):
        model.config = dataclasses.replace(model.config, id2label={str(n): text for n, text in enumerate(labels)})
    save(model, folder)
    return kind
