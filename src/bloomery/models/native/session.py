"""A session: one text of a decoder that lies in an image, read and gone on with token by token.

The same native calls as `NativeDecoder` makes, so the same logits to the last bit, over keys and values of its own.
This module does not know PyTorch, tokens' texts, nor how one is chosen.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np

from bloomery.core.errors import DataError, DeviceError, RequestError
from bloomery.models.native.image import Image
from bloomery.models.native.library import FORMATS, SPIN_NANOSECONDS, Step, Sums, library, put_rows

_PART = 512
"""Tokens of a prompt that are read in one call."""
_TYPES = {"float32": np.float32, "float16": np.float16}


class Row:
    """Logits (V,) float32 of what may come next; `best` is the likeliest token."""

    def __init__(self, logits: np.ndarray, log_of_sum: float, best: int) -> None:
        self.logits, self.log_of_sum, self.best = logits, log_of_sum, best

    def of(self, token: int) -> float:
        """The token's natural log-probability, as a float32."""
        return float(np.float32(float(self.logits[token]) - self.log_of_sum))


class Session:
    """See the module. To be used by one thread."""

    def __init__(self, image: Image, positions: int) -> None:
        """Room for so many tokens. DeviceError where there is no library, RequestError beyond the image's tables."""
        found = library()
        if found.calls is None:
            raise DeviceError(found.text)
        if positions > image.facts.positions:
            raise RequestError(f"{positions:,} tokens are more than the {image.facts.positions:,} of the image")
        self._calls, self._image, self._room, self.length = found.calls, image, positions, 0
        model, kind = image.model, _TYPES[image.facts.cache]
        shape = (positions, model.kv_heads, model.head_dim)
        layers = range(model.layers)
        self._kept = [[np.empty(shape, dtype=kind) for _ in layers] for _ in ("keys", "values")]
        self._keys, self._values = (
            (ctypes.c_void_p * model.layers)(*[one.ctypes.data for one in both]) for both in self._kept
        )
        self._ids = np.zeros(positions, dtype=np.int64) if image.facts.looks_back else None

    def prefill(self, token_ids: Sequence[int]) -> Row:
        """Read a prompt, part by part: between two of them it may be interrupted. What comes after its last token.
        Errors as of `step`."""
        self._check(token_ids)
        parts = [token_ids[at : at + _PART] for at in range(0, len(token_ids), _PART)]
        for part in parts[:-1]:
            self._read(part, in_blocks=True, wanted=0)
        row = self._read(parts[-1], in_blocks=True, wanted=1)
        assert row is not None
        return row

    def step(self, token: int) -> Row:
        """Go on with a token. RequestError for an id that is none, or without room; DataError where the model's output
        is not a number; DeviceError without memory."""
        self._check([token])
        row = self._read([token], in_blocks=False, wanted=1)
        assert row is not None
        return row

    def _check(self, token_ids: Sequence[int]) -> None:
        known, after = self._image.model.vocabulary, self.length + len(token_ids)
        if not token_ids or min(token_ids) < 0 or max(token_ids) >= known:
            raise RequestError(f"a token id that is not among the model's {known:,}")
        if after > self._room:
            raise RequestError(f"{after:,} tokens are more than the {self._room:,} that there is room for")

    def _read(self, token_ids: Sequence[int], *, in_blocks: bool, wanted: int) -> Row | None:
        count, model, first = len(token_ids), self._image.model, self.length
        logits, sums = np.empty((wanted, model.vocabulary), dtype=np.float32), Sums(1)
        step = Step(rows=count, skipped=count - wanted, in_blocks=in_blocks, last_layer=model.layers)
        step.cache = FORMATS[self._image.facts.cache]
        step.ids = None if self._ids is None else self._ids.ctypes.data
        step.keys, step.values = ctypes.addressof(self._keys), ctypes.addressof(self._values)
        step.logits = logits.ctypes.data
        sums.put(step)
        places, tables = range(first, first + count), self._image.tables
        turned = tuple([table[side][0] + table[side][1] * at for table in tables for at in places] for side in (0, 1))
        _rows = put_rows(step, token_ids, places, [0] * count, [0, 1], [0, first + count], turned)  # type: ignore[arg-type]
        if self._calls.bloomery_step(model, step, self._image.facts.threads, SPIN_NANOSECONDS):
            raise DeviceError("no memory for a step")
        self.length += count
        if not wanted:
            return None
        if math.isnan(sums.logs[0]):
            raise DataError("the model's output is not a number", hint="the weights are damaged, or overflow")
        return Row(logits[0], sums.logs[0], sums.best[0])
