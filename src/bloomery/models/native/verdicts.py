"""Verdicts: what trials of native steps found on this machine, remembered from one process to the next.

A trial takes about a second, which a command that writes a sentence should not pay each time. A verdict holds for the
library, the processor, its threads, PyTorch and the model (its config, formats, and numbers of its embedding and norms)
that it was found with; only those in favour of native code are kept, for the others may be a busy moment's. So it is
with facts about layers: that one of a format and shape passed its check, that products in a format are the faster ones.
All lie in $XDG_CACHE_HOME/bloomery (or ~/.cache/bloomery), the last 256 of each. A file that is damaged, or a folder
that cannot be written, means that trials are made anew. This module does not know how a trial is made.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bloomery.core.artifact import write_durably
from bloomery.core.config import digest
from bloomery.core.errors import DataError
from bloomery.models.decoder import Decoder
from bloomery.models.native.build import digest as sources
from bloomery.models.native.library import library
from bloomery.models.native.machine import cached, processor
from bloomery.models.packed import PackedLinear
from bloomery.models.weights import as_json, read_json

_NAME, _FACTS, _MOST, _DAYS = "native_trials.json", "native_facts.json", 256, 30
_SAMPLE = 4
"""Rows of the embedding that tell one model from another of its shape."""

Verdict = dict[str, Any]


def key_of(decoder: Decoder) -> str:
    """What a verdict about a decoder is kept by."""
    formats = sorted({one.format for one in decoder.modules() if isinstance(one, PackedLinear)})
    sample = [decoder.model.embed_tokens.weight[:_SAMPLE], decoder.model.norm.weight]
    numbers = [part.detach().float().double().sum().item().hex() for part in sample if part is not None]
    weight = next(decoder.parameters())
    return digest([*_here(), decoder.config.to_hf(), str(weight.dtype), formats, numbers])


def remembered(key: str) -> Verdict | None:
    """The verdict of that key; None where there is none, or it is older than a month."""
    found = _read(_NAME, _is_verdict).get(key)
    if found is None or not 0 <= time.time() - found["at"] < _DAYS * 86400:
        return None
    return {**found, "speedup": {int(count): ratio for count, ratio in found["speedup"].items()}}


def remember(key: str, *, speedup: dict[int, float], error: float, prompt_speedup: float) -> None:
    """Keep a verdict, if it is in favour in everything and can be kept."""
    if min(mean_of(speedup), prompt_speedup) <= 1.0:
        return
    found = {"speedup": speedup, "error": error, "prompt_speedup": prompt_speedup, "at": time.time()}
    _keep(_NAME, _read(_NAME, _is_verdict), key, found)


_seen: dict[tuple[Path | None, str], float] = {}
"""Facts that this process has asked for, and since when they are known: layers ask by thousands."""


def is_known(*fact: str | int) -> bool:
    """Whether a fact was found true here, within the last month."""
    key = digest([*_here(), *fact])
    place = _place(_FACTS), key
    if place not in _seen:
        if (found := _read(_FACTS, _is_time).get(key)) is None:
            return False
        _seen[place] = found
    return 0 <= time.time() - _seen[place] < _DAYS * 86400


def make_known(*fact: str | int) -> None:
    """Keep a fact that was found true, if it can be kept."""
    key = digest([*_here(), *fact])
    _seen[_place(_FACTS), key] = time.time()
    _keep(_FACTS, _read(_FACTS, _is_time), key, time.time())


def _here() -> list[Any]:
    """What all that is found depends on."""
    machine = [processor(), os.cpu_count(), torch.get_num_threads(), torch.__version__]
    return [_sources(), library().text, machine]


_sources = cache(sources)


def _keep(name: str, kept: dict[str, Any], key: str, value: Any) -> None:
    kept.pop(key, None)
    kept[key] = value
    try:
        cached(name).parent.mkdir(parents=True, exist_ok=True)
        write_durably(cached(name), as_json(dict(list(kept.items())[-_MOST:])))
    except (OSError, RuntimeError):  # Path.home() of nobody
        return  # a cache: nothing is lost but time


def mean_of(speedup: dict[int, float]) -> float:
    """The geometric mean."""
    return math.exp(sum(math.log(one) for one in speedup.values()) / len(speedup))


def _place(name: str) -> Path | None:
    try:
        return cached(name)
    except RuntimeError:  # Path.home() of nobody
        return None


def _read(name: str, is_one: Callable[[Any], bool]) -> dict[str, Any]:
    """All that can be read of a file."""
    try:
        return {key: value for key, value in read_json(cached(name)).items() if is_one(value)}
    except (DataError, RuntimeError):
        return {}


def _is_number(one: Any, low: float, high: float) -> bool:
    return isinstance(one, int | float) and not isinstance(one, bool) and low < one < high  # no NaN is


def _is_time(value: Any) -> bool:
    return _is_number(value, 0, 1e12)


def _is_verdict(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"speedup", "error", "prompt_speedup", "at"}:
        return False
    speedup = value["speedup"]
    sound = isinstance(speedup, dict) and speedup and set(speedup) <= {str(count) for count in range(1, 65)}
    ratios = [*speedup.values(), value["prompt_speedup"]] if sound else [None]
    return (
        all(_is_number(one, 0, 1e6) for one in ratios) and _is_number(value["error"], -1, 1e6) and _is_time(value["at"])
    )
