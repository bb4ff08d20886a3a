"""Verdicts: what trials of native steps found on this machine, remembered from one process to the next.

A trial takes about a second, which a command that writes a sentence should not pay each time. A verdict holds for the
library, the processor, its threads, PyTorch and the model (its config, formats, and numbers of its embedding and norms)
that it was found with; only those in favour of native code are kept, for the others may be a busy moment's. They lie in
$XDG_CACHE_HOME/bloomery (or ~/.cache/bloomery), the last 256 of them. A file that is damaged, or a folder that cannot
be written, means that trials are made anew. This module does not know how a trial is made.
"""

from __future__ import annotations

import math
import os
import platform
import time
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
from bloomery.models.packed import PackedLinear
from bloomery.models.weights import as_json, read_json

_NAME, _MOST, _DAYS = "native_trials.json", 256, 30
_SAMPLE = 4
"""Rows of the embedding that tell one model from another of its shape."""

Verdict = dict[str, Any]


def key_of(decoder: Decoder) -> str:
    """What a verdict about a decoder is kept by."""
    formats = sorted({one.format for one in decoder.modules() if isinstance(one, PackedLinear)})
    sample = [decoder.model.embed_tokens.weight[:_SAMPLE], decoder.model.norm.weight]
    numbers = [part.detach().float().double().sum().item().hex() for part in sample if part is not None]
    weight = next(decoder.parameters())
    machine = [_processor(), os.cpu_count(), torch.get_num_threads(), torch.__version__]
    return digest([sources(), library().text, machine, decoder.config.to_hf(), str(weight.dtype), formats, numbers])


def remembered(key: str) -> Verdict | None:
    """The verdict of that key; None where there is none, or it is older than a month."""
    found = _read().get(key)
    if found is None or not 0 <= time.time() - found["at"] < _DAYS * 86400:
        return None
    return {**found, "speedup": {int(count): ratio for count, ratio in found["speedup"].items()}}


def remember(key: str, *, speedup: dict[int, float], error: float, prompt_speedup: float) -> None:
    """Keep a verdict, if it is in favour in everything and can be kept."""
    if min(mean_of(speedup), prompt_speedup) <= 1.0:
        return
    kept = _read()
    kept.pop(key, None)
    kept[key] = {"speedup": speedup, "error": error, "prompt_speedup": prompt_speedup, "at": time.time()}
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_durably(_file(), as_json(dict(list(kept.items())[-_MOST:])))
    except (OSError, RuntimeError):  # Path.home() of nobody
        return  # a cache: nothing is lost but time


def mean_of(speedup: dict[int, float]) -> float:
    """The geometric mean."""
    return math.exp(sum(math.log(one) for one in speedup.values()) / len(speedup))


def _file() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home else Path.home() / ".cache") / "bloomery" / _NAME


def _read() -> dict[str, Verdict]:
    """All verdicts that can be read."""
    try:
        return {key: value for key, value in read_json(_file()).items() if _is_verdict(value)}
    except (DataError, RuntimeError):
        return {}


def _is_verdict(value: Any) -> bool:
    def number(one: Any, low: float, high: float) -> bool:
        return isinstance(one, int | float) and not isinstance(one, bool) and low < one < high  # no NaN is

    if not isinstance(value, dict) or set(value) != {"speedup", "error", "prompt_speedup", "at"}:
        return False
    speedup = value["speedup"]
    sound = isinstance(speedup, dict) and speedup and set(speedup) <= {str(count) for count in range(1, 65)}
    ratios = [*speedup.values(), value["prompt_speedup"]] if sound else [None]
    return (
        all(number(one, 0, 1e6) for one in ratios) and number(value["error"], -1, 1e6) and number(value["at"], 0, 1e12)
    )


@cache
def _processor() -> str:
    """Its name and what it can do, as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return " ".join((platform.machine(), platform.processor()))
    told = dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
    return digest(list(told))
