"""The library of the native decode step, where it was built: found, checked, and its structures as ctypes sees them.

It is used only if it was built of the sources that lie beside it. This module does not know tensors or models.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bloomery.models.native.build import LIBRARY, digest

FORMATS = {"float32": 0, "float16": 1, "int8": 2, "int4": 3, "bfloat16": 4}
"""What a matrix may be in; as `Format` in decoder_step.h."""
ACTIVATIONS = {
    "silu": 0,
    "swish": 0,
    "gelu": 1,
    "gelu_new": 2,
    "gelu_fast": 2,
    "gelu_pytorch_tanh": 2,
    "quick_gelu": 3,
    "relu": 4,
    "relu2": 5,
    "tanh": 6,
}
"""As `Activation`, under Hugging Face's names."""
NO_NORM, RMS_NORM, LAYER_NORM = 0, 1, 2
_BITS = (32, 16, 8, 4, 16)
"""Of a number in each of `FORMATS`."""
PANEL = 16
"""Outputs that lie together."""
SPIN_NANOSECONDS = 2_000_000
"""How long threads wait awake for the next step: longer than what usually lies between two."""
OFF_VARIABLE = "BLOOMERY_NATIVE"
"""Set to "off" in the environment: the library is not used."""

_BUILD = "python -m bloomery.models.native.build"
_int32, _int64, _float, _pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class MatrixFields(ctypes.Structure):
    """`Matrix` as in decoder_step.h, and so are the others."""

    _fields_ = (
        ("format", _int32),
        ("scale_bytes", _int32),
        *((name, _int64) for name in ("outputs", "inputs", "panels", "groups")),
        *((name, _pointer) for name in ("weights", "scales", "bias")),
        ("bytes", ctypes.c_size_t),
    )


def weight_bytes(matrix: MatrixFields) -> int:
    """Of its weights without scales, filled up as they lie."""
    bits = _BITS[matrix.format]
    wide = 2 * PANEL if bits == 16 else PANEL
    inputs = matrix.inputs + (matrix.inputs % 2 if bits == 8 else 0)
    return -(-matrix.outputs // wide) * wide * inputs * bits // 8


class Norm(ctypes.Structure):
    _fields_ = (
        ("kind", _int32),
        ("size", _int32),
        ("eps", _float),
        ("unused", _int32),
        ("weight", _pointer),
        ("bias", _pointer),
    )


class Layer(ctypes.Structure):
    _fields_ = (
        *((name, Norm) for name in ("attention_in", "attention_out", "feed_in", "feed_out", "query", "key")),
        *((name, _pointer) for name in ("qkv", "output", "up", "down", "token_values", "value_gates")),
        *((name, _int32) for name in ("window", "table")),
        *((name, _float) for name in ("stream_share", "begun_share")),
    )


class Model(ctypes.Structure):
    _fields_ = (
        *((name, _int32) for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "rotary_dim")),
        *((name, _int32) for name in ("intermediate", "vocabulary", "activation", "gated", "parallel", "tables")),
        *((name, _int32) for name in ("mixes", "gate_inputs", "smear_inputs", "bigram_rows")),
        *((name, _float) for name in ("embedding_scale", "attention_scale", "attention_cap", "logit_cap")),
        *((name, _pointer) for name in ("embedding", "positions", "slopes", "smear", "bigrams", "layer", "head")),
        ("embedding_norm", Norm),
        ("last_norm", Norm),
    )


class Step(ctypes.Structure):
    _fields_ = (
        *((name, _int32) for name in ("rows", "skipped", "in_blocks", "cache", "first_layer", "last_layer")),
        *((name, _pointer) for name in ("token", "position", "text", "runs", "run", "ids", "keys", "values")),
        *(
            (name, _pointer)
            for name in ("key_scales", "value_scales", "cosines", "sines", "stream", "logits", "logs", "best", "states")
        ),
    )


class Sums:
    """Of `count` rows of logits: the `logs` of the sums of their exponentials, no number where a logit is none or
    infinite, and where the `best` logit is, the first of several."""

    def __init__(self, count: int) -> None:
        self.logs, self.best = (ctypes.c_double * count)(), (ctypes.c_int64 * count)()

    def put(self, step: Step) -> None:
        """Have a step fill them in."""
        step.logs, step.best = ctypes.addressof(self.logs), ctypes.addressof(self.best)


def put_rows(
    step: Step,
    tokens: Sequence[int],
    positions: Sequence[int],
    texts: Sequence[int],
    bounds: Sequence[int],
    runs: Sequence[int],
    tables: tuple[Sequence[int], Sequence[int]],
) -> list[ctypes.Array[Any]]:
    """What a step's rows are (see `Step` in decoder_step.h; `tables` are addresses of rows of cosines and of sines);
    returns what is to be kept until it is made."""
    given = {
        "token": (_int32 * len(tokens))(*tokens),
        "position": (_int32 * len(positions))(*positions),
        "text": (_int32 * len(texts))(*texts),
        "runs": (_int64 * len(bounds))(*bounds),
        "run": (_int64 * len(runs))(*runs),
        "cosines": (_pointer * len(tables[0]))(*tables[0]),
        "sines": (_pointer * len(tables[1]))(*tables[1]),
    }
    for name, array in given.items():
        setattr(step, name, ctypes.addressof(array))
    return list(given.values())


@dataclass(frozen=True)
class Found:
    """`calls` is the library, None if it is not to be used, and `text` says which or why."""

    calls: ctypes.CDLL | None
    text: str


def library() -> Found:
    """The library, loaded once."""
    if os.environ.get(OFF_VARIABLE) == "off":
        return Found(None, f"the native step is off: {OFF_VARIABLE}=off")
    return _load(LIBRARY)


@cache
def _load(path: Path) -> Found:
    if not path.is_file():
        return Found(None, f"the native step was not built; where there is a C++ compiler: {_BUILD}")
    try:
        calls = ctypes.CDLL(str(path))
        calls.bloomery_source.restype = ctypes.c_char_p
        calls.bloomery_instructions.restype = ctypes.c_char_p
        source = calls.bloomery_source().decode()
    except (OSError, AttributeError) as error:
        return Found(None, f"the native step cannot be loaded: {error!s:.200}")
    if source != digest():
        return Found(None, f"the native step was built of other sources: {_BUILD}")
    calls.bloomery_matrix.argtypes = (_int32, _int64, _int64, _int64, _int32, _int32)
    calls.bloomery_matrix.restype = _pointer
    calls.bloomery_free.argtypes = (_pointer,)
    calls.bloomery_free.restype = None
    calls.bloomery_multiply.argtypes = (_pointer, _pointer, _int32, _pointer, _int32, _int64)
    calls.bloomery_multiply.restype = _int32
    calls.bloomery_step.argtypes = (ctypes.POINTER(Model), ctypes.POINTER(Step), _int32, _int64)
    calls.bloomery_step.restype = _int32
    return Found(calls, f"native decode step, {calls.bloomery_instructions().decode()} kernels")
