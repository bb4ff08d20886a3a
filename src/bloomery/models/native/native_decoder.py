"""A decoder whose decode steps are one native call each, over the same paged keys and values as PyTorch's.

A row is a token of a sequence; several rows may belong to one (guesses), for all keys of a layer are stored before
anyone looks at them. A row's result does not depend on the others, to the last bit. This module does not know who
decides what is decoded, nor whether native code is worth it (see `trial`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from bloomery.core.errors import DeviceError, RequestError
from bloomery.models.decoder import Decoder
from bloomery.models.native.description import Description
from bloomery.models.native.library import Step, library
from bloomery.models.paged import PagedMemory, Rows

SPIN_NANOSECONDS = 2_000_000
"""How long threads wait awake for the next step: longer than what usually lies between two."""


class NativeDecoder:
    """See the module."""

    def __init__(self, decoder: Decoder, *, threads: int | None = None, spin_nanoseconds: int = SPIN_NANOSECONDS) -> None:
        """`threads` None: as many as PyTorch has. DeviceError where there is no library, or the decoder cannot be
        described."""
        found = library()
        if found.calls is None:
            raise DeviceError(found.text)
        self._calls = found.calls
        self.decoder = decoder
        self.description = Description(found.calls, decoder)
        self.threads, self.spin_nanoseconds = threads or torch.get_num_threads(), spin_nanoseconds
        self._memory: tuple[PagedMemory, list[ctypes.Array[ctypes.c_void_p]]] | None = None

    def step(self, memory: PagedMemory, rows: Sequence[Rows], token_ids: Sequence[Sequence[int]]) -> Tensor:
        """Read the new tokens of several sequences, whose keys and values are stored: logits (N, V) float32, of all of
        them one after the other. RequestError beyond the context, and for an id that is none."""
        tokens = [token for part in token_ids for token in part]
        positions = [one.start + i for one in rows for i in range(one.count)]
        if not tokens:
            return torch.empty(0, self.decoder.config.vocab_size)
        self._check(tokens, positions)
        bounds, runs = [0], []
        for one in rows:
            for _ in range(one.count):
                runs += [number for run in one.runs for number in run]
                bounds.append(len(runs) // 2)
        logits = torch.empty(len(tokens), self.decoder.config.vocab_size)
        cosines, sines, _kept = self._tables(rows, positions)
        step = Step(
            rows=len(tokens),
            cache_is_int8=memory.keys[0].dtype == torch.int8,
            **dict(zip(("keys", "values", "key_scales", "value_scales"), map(_address, self._pointers(memory)), strict=True)),
            logits=logits.data_ptr(),
        )
        given = {
            "token": (ctypes.c_int32 * len(tokens))(*tokens),
            "position": (ctypes.c_int32 * len(tokens))(*positions),
            "runs": (ctypes.c_int64 * len(bounds))(*bounds),
            "run": (ctypes.c_int64 * len(runs))(*runs),
            "cosines": (ctypes.c_void_p * len(cosines))(*cosines),
            "sines": (ctypes.c_void_p * len(sines))(*sines),
        }
        for name, array in given.items():
            setattr(step, name, _address(array))
        failed = self._calls.bloomery_step(self.description.model, step, self.threads, self.spin_nanoseconds)
        if failed:
            raise DeviceError("no memory for a step")
        return logits

    def _check(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        config = self.decoder.config
        if min(tokens) < 0 or max(tokens) >= config.vocab_size:
            raise RequestError(f"a token id that is not among the model's {config.vocab_size:,}")
        if max(positions) >= config.context_length:
            raise RequestError(
                f"{max(positions) + 1:,} tokens are more than the model's context of {config.context_length:,}",
                code="context_length_exceeded",
            )

    def _pointers(self, memory: PagedMemory) -> list[ctypes.Array[ctypes.c_void_p]]:
        if self._memory is None or self._memory[0] is not memory:
            if memory.keys[0].dtype not in (torch.float32, torch.int8):
                raise DeviceError(f"the native step reads no keys and values in {memory.keys[0].dtype}")
            columns = [memory.keys, memory.values, *([list(one) for one in zip(*memory.scales, strict=True)] or [[], []])]
            arrays = [(ctypes.c_void_p * len(one))(*[tensor.data_ptr() for tensor in one]) for one in columns]
            self._memory = memory, arrays
        return self._memory[1]

    def _tables(self, rows: Sequence[Rows], positions: Sequence[int]) -> tuple[list[int], list[int], list[Tensor]]:
        """Addresses of the rows of cosines and sines, table by table; and what keeps them there."""
        cosines, sines, kept = [], [], []
        end, device = max(positions) + 1, self.decoder.model.embed_tokens.weight.device
        for layer in self.description.tables:
            for one in rows:
                found = self.decoder.rope(layer, end, one.reach, device)
                assert found is not None
                kept += found
                for into, table in zip((cosines, sines), found, strict=True):
                    first, width = table.data_ptr(), 4 * table.size(1)
                    into += [first + width * (one.start + i) for i in range(one.count)]
        return cosines, sines, kept


def _address(array: ctypes.Array[ctypes.c_void_p] | ctypes.Array[ctypes.c_int32]) -> int:
    return ctypes.addressof(array)
