"""Publishing: a trained model written as the files that read it back, its labels named where the format has a place.

This module does not know how models are trained, where their folders lie, nor how one kind is written (see
`models.kinds`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from bloomery.models.decoder_classifier import DecoderClassifier
from bloomery.models.encoder import Encoder
from bloomery.models.kinds import kind_of_model
from bloomery.models.vision import VisionEncoder


def save_model(model: nn.Module, folder: Path, *, labels: Sequence[str] = ()) -> str:
    """Write config.json and safetensors; returns the kind of artifact. `labels` name a head's classes where the
    format has a place for them."""
    kind = kind_of_model(model)
    if labels and isinstance(model, (Encoder, VisionEncoder)):
        named = {str(n): text for n, text in enumerate(labels)}
        model.config = dataclasses.replace(cast(Any, model.config), id2label=named)
    elif labels and isinstance(model, DecoderClassifier):
        model.labels = tuple(labels)
    kind.save(model, folder)
    return kind.artifact
