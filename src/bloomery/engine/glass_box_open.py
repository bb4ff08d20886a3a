"""Opening a glass box: any model with attention, from where `load` finds models.

This module does not know what is looked at.
"""

from __future__ import annotations

from pathlib import Path

import torch

from bloomery.core.artifact import Artifact
from bloomery.core.errors import RequestError
from bloomery.core.workspace import Workspace
from bloomery.engine.finding import find_model
from bloomery.engine.glass_box import GlassBox
from bloomery.engine.glass_box_images import SeeingGlassBox
from bloomery.engine.loading import choose_device
from bloomery.models import load_pretrained
from bloomery.models.decoder_classifier import DecoderClassifier
from bloomery.models.image_processor import ImageProcessor
from bloomery.models.inside import stacks
from bloomery.models.kinds import kind_of
from bloomery.models.weights import read_json
from bloomery.tokenizer import Tokenizer, TokenizerPair

_LOOKED_INTO = ("encoder", "seq2seq", "recurrent", "decoder-classifier", "text-classifier")
"""Kinds beside decoders and what reads pictures."""


def open_glass_box(
    reference: str | Path | Artifact,
    *,
    device: str | torch.device | None = None,
    workspace: Workspace | str | Path | None = None,
) -> GlassBox:
    """Any model with attention, by what `load` takes; of one with a head of classes, what is below it. Errors as
    `load`'s."""
    place = choose_device(device)
    folder, name = find_model(reference, workspace)
    kind = kind_of(read_json(folder / "config.json"))
    read = kind.load if kind.name in _LOOKED_INTO or kind.reads_images else load_pretrained
    # Half precision is slower on a CPU; `load` does the same.
    model = read(folder, dtype=torch.float32 if place.type == "cpu" else None, device=place)
    if kind.reads_images:
        tokenizer = Tokenizer.load(folder) if kind.reads_text else None
        return SeeingGlassBox.of(model, tokenizer, ImageProcessor.from_folder(folder), name=name)
    model = model.decoder if isinstance(model, DecoderClassifier) else model
    if not stacks(model) and kind.name == "text-classifier":
        raise RequestError(f"{name} has no attention", hint="encoders, decoders and encoder-decoders have")
    tokenizers = TokenizerPair.load(folder)
    return GlassBox(model, tokenizers.source, name=name, target_tokenizer=tokenizers.target)
