"""Packed weights at load: which format a model is asked to compute in, and the model in it.

`weights` is "plain" (nothing is done), a format of `models.packed`, or "auto" (the fastest here whose next-token
distributions stay within `MAX_LOSS_NATS`); None is the file's own format where it is quantised, and plain otherwise.
This module does not know how folders are found, nor how weights are packed.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from bloomery.core.errors import ConfigError, nearest
from bloomery.models.compressed import scheme_of
from bloomery.models.decoder import Decoder
from bloomery.models.native.linear import natively_packed
from bloomery.models.packed import CPU_FORMATS, CUDA_FORMATS
from bloomery.models.packed_choice import PLAIN, choose
from bloomery.models.packing import on_device, pack
from bloomery.models.pretrained import load_with_codes
from bloomery.models.weights import read_json

log = logging.getLogger("bloomery.engine")
AUTO = "auto"
WEIGHTS = (PLAIN, AUTO, *dict.fromkeys((*CPU_FORMATS, *CUDA_FORMATS)))
"""What `weights` may be."""


def check_weights(weights: str | None) -> None:
    """ConfigError for a name that is none of `WEIGHTS`."""
    if weights is not None and weights not in WEIGHTS:
        raise ConfigError(f"unknown weights {weights!r:.40}", hint=nearest(str(weights), WEIGHTS))


def load_decoder(folder: Path, place: torch.device, dtype: torch.dtype | None, weights: str | None) -> Decoder:
    """A folder's decoder with its weights as asked; ConfigError as `check_weights` and `pack`."""
    check_weights(weights)
    scheme = scheme_of(read_json(folder / "config.json"))
    if weights is None and scheme is not None:
        weights = on_device(scheme.format, place)
    floats = weights is None or weights in (PLAIN, AUTO) or place.type != "cpu"
    decoder, known = load_with_codes(folder, dtype=dtype, device=place, floats=floats)
    group_size = 32 if scheme is None or scheme.group_size is None else scheme.group_size
    if weights is None or weights == PLAIN:
        return decoder
    if weights == AUTO:
        chosen, choice = choose(decoder, group_size=group_size, known=known, make=natively_packed)
        log.info("weights of %s: %s", folder, choice.to_dict())
        return chosen
    pack(decoder, weights, group_size=group_size, known=known, make=natively_packed)
    return decoder


def pack_loaded(model: nn.Module, weights: str | None) -> None:
    """Pack a model that was loaded already, in place. ConfigError for "auto", which compares what decoders write."""
    check_weights(weights)
    if weights == AUTO:
        raise ConfigError('weights="auto" is for decoders', hint="name a format: " + ", ".join(CPU_FORMATS))
    if weights is not None and weights != PLAIN:
        pack(model, weights)


def refuse_weights(weights: str | None, name: str) -> None:
    """ConfigError if packed weights are asked of a model of a kind that has none."""
    check_weights(weights)
    if weights is not None and weights != PLAIN:
        raise ConfigError(f"the weights of {name} cannot be packed", hint="leave weights= out")
