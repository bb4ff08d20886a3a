"""A decoder whose steps are one native call each, over the same paged keys and values as PyTorch's.

A row is a token of a sequence; several rows may belong to one (a prompt, guesses), for all keys of a layer are stored
before anyone looks at them. A row's result does not depend on the others, to the last bit; a prompt's differs in the
last bits from that of the same tokens in decode steps, as attention adds up in another order. This module does not know
who decides what is computed, nor whether native code is worth it (see `trial`).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from bloomery.core.errors import DeviceError, RequestError
from bloomery.models.decoder import Decoder
from bloomery.models.native.description import Description
from bloomery.models.native.image import Facts, NewImage
from bloomery.models.native.library import FORMATS, SPIN_NANOSECONDS, Step, Sums, library, put_rows
from bloomery.models.paged import PagedMemory, Rows

CACHES = {torch.float32: FORMATS["float32"], torch.float16: FORMATS["float16"], torch.int8: FORMATS["int8"]}
"""How keys and values may be kept."""
_SHORT = 16
"""Tokens: with at most so many nobody waits long. Two prompts that are read in one step have 64 each."""
_BYTES_OF_A_THREAD = 1 << 19
"""Of weights: with fewer for each thread, meeting costs more than sharing the work saves."""


class NativeDecoder:
    """See the module."""

    def __init__(
        self, decoder: Decoder, *, threads: int | None = None, spin_nanoseconds: int = SPIN_NANOSECONDS
    ) -> None:
        """`threads` None: as many as PyTorch has, fewer for a small model; results are the same. DeviceError where
        there is no library, or the decoder cannot be described."""
        found = library()
        if found.calls is None:
            raise DeviceError(found.text)
        self._calls = found.calls
        self._rotary: tuple[int, int, list[tuple[Tensor, Tensor]]] | None = None
        self._decoder = weakref.ref(decoder)  # it is kept beside the decoder, for as long as that lives
        self._describe()
        shares = 1 + self.description.nbytes // _BYTES_OF_A_THREAD
        self.most_threads = threads or min(torch.get_num_threads(), shares)
        """Where nothing else is said."""
        self.spin_nanoseconds = spin_nanoseconds
        self._memory: tuple[weakref.ref[PagedMemory], dict[str, ctypes.Array[ctypes.c_void_p]]] | None = None

    @property
    def decoder(self) -> Decoder:
        """The decoder, which somebody else keeps."""
        decoder = self._decoder()
        assert decoder is not None
        return decoder

    def _describe(self) -> None:
        self.description = Description(self._calls, self.decoder)
        self._weights = [
            (module._parameters, name, one, None if one.is_inference() else one._version)
            for module in self.decoder.modules()
            for name, one in module._parameters.items()
            if one is not None
        ]

    def _changed(self) -> bool:
        """Whether a weight was written to (trained) or replaced (an adapter merged)."""
        for held, name, one, version in self._weights:  # asked at each step: no generator
            if held[name] is not one or (version is not None and one._version != version):
                return True
        return False

    def step(
        self,
        memory: PagedMemory,
        rows: Sequence[Rows],
        token_ids: Sequence[Sequence[int]],
        sums: Sums | None = None,
        states: Tensor | None = None,
        way: tuple[int, int] | None = None,
    ) -> Tensor:
        """Read the new tokens of several sequences, whose keys and values are stored: logits (N, V) float32, of all of
        them one after the other; what `sums` are of these, and what the output head reads, in `states` (N, E) float32,
        if they are asked for. `way` is how many threads do it, and how many nanoseconds they then wait awake; None:
        all, and as long as usual. RequestError beyond the context, and for an id that is none."""
        return self._read(memory, rows, token_ids, skipped=0, in_blocks=False, sums=sums, states=states, way=way)

    def prefill(
        self,
        memory: PagedMemory,
        rows: Rows,
        token_ids: Sequence[int],
        wanted: int,
        between: Callable[[], None] | None = None,
        states: Tensor | None = None,
    ) -> Tensor:
        """The same for a part of a prompt: logits (wanted, V) of its last tokens, 0 and more, and states. It is all the
        same, to the last bit, in how many parts a prompt is read. `between` is called after each layer but the last,
        unless the part is short: other steps may be made there, of other positions."""
        between = between if len(token_ids) > _SHORT else None
        how = {"skipped": len(token_ids) - wanted, "in_blocks": True, "between": between, "states": states}
        return self._read(memory, [rows], [token_ids], **how)

    def imaged(self, positions: int, cache: torch.dtype) -> NewImage:
        """Ready to be kept as an image, for texts of at most so many tokens, whose keys and values are in `cache`; to
        be written before the weights change. DeviceError where rotations depend on how long a text is, and for keys and
        values that a session does not have."""
        config = self.decoder.config
        positions = min(positions, config.context_length)
        if config.reach(1) or config.reach(config.context_length):
            raise DeviceError("rotations that depend on how long a text is are not kept")
        if cache not in (torch.float32, torch.float16):
            raise DeviceError(f"sessions keep no keys and values in {cache}")
        facts = Facts(
            context_length=config.context_length,
            positions=positions,
            threads=self.most_threads,
            cache=str(cache).removeprefix("torch."),
            looks_back=config.looks_back,
        )
        tables = self._tables_of(0, positions)
        shown = [tuple((one.data_ptr(), 4 * one.size(1)) for one in both) for both in tables]
        return NewImage(self.description, shown, facts)  # type: ignore[arg-type]

    def _read(
        self,
        memory: PagedMemory,
        rows: Sequence[Rows],
        token_ids: Sequence[Sequence[int]],
        *,
        skipped: int,
        in_blocks: bool,
        between: Callable[[], None] | None = None,
        sums: Sums | None = None,
        states: Tensor | None = None,
        way: tuple[int, int] | None = None,
    ) -> Tensor:
        tokens = [token for part in token_ids for token in part]
        positions = [one.start + i for one in rows for i in range(one.count)]
        logits = torch.empty(len(tokens) - skipped, self.decoder.config.vocab_size)
        if not tokens:
            return logits
        self._check(tokens, positions)
        if self._changed():
            self._describe()
        text = [number for number, one in enumerate(rows) for _ in range(one.count)]
        bounds = [0, *accumulate(len(one.runs) for one in rows)]
        runs = [number for one in rows for run in one.runs for number in run]
        cosines, sines, _tables = self._tables(rows, max(positions) + 1)
        layers, hidden = self.decoder.config.num_hidden_layers, self.decoder.config.hidden_size
        stream = None if between is None else torch.empty(1 + self.description.model.mixes, len(tokens), hidden)
        step = Step(rows=len(tokens), skipped=skipped, in_blocks=in_blocks, last_layer=layers)
        step.ids = None if memory.ids is None else memory.ids.data_ptr()
        if sums is not None:
            sums.put(step)
        step.states = None if states is None else states.data_ptr()
        step.stream, step.logits = None if stream is None else stream.data_ptr(), logits.data_ptr()
        for name, array in self._pointers(memory).items():
            setattr(step, name, ctypes.addressof(array))
        step.cache = CACHES[memory.keys[0].dtype]
        _rows = put_rows(step, tokens, positions, text, bounds, runs, (cosines, sines))
        if between is None:
            self._call(step, way)
            return logits
        for layer in range(layers):
            if layer:
                between()
            step.first_layer, step.last_layer = layer, layer + 1
            self._call(step, way)
        return logits

    def _call(self, step: Step, way: tuple[int, int] | None) -> None:
        if self._calls.bloomery_step(
            self.description.model, step, *(way or (self.most_threads, self.spin_nanoseconds))
        ):
            raise DeviceError("no memory for a step")

    def _check(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        config = self.decoder.config
        if min(tokens) < 0 or max(tokens) >= config.vocab_size:
            raise RequestError(f"a token id that is not among the model's {config.vocab_size:,}")
        if max(positions) >= config.context_length:
            raise RequestError(
                f"{max(positions) + 1:,} tokens are more than the model's context of {config.context_length:,}",
                code="context_length_exceeded",
            )

    def _pointers(self, memory: PagedMemory) -> dict[str, ctypes.Array[ctypes.c_void_p]]:
        """Addresses of each layer's keys and values, made once for a memory."""
        held = self._memory  # once: another engine's thread may put its own there
        if held is None or held[0]() is not memory:
            if memory.keys[0].dtype not in CACHES:
                raise DeviceError(f"the native step reads no keys and values in {memory.keys[0].dtype}")
            columns = {"keys": memory.keys, "values": memory.values}
            if memory.scales:
                columns["key_scales"], columns["value_scales"] = (list(one) for one in zip(*memory.scales, strict=True))
            made = {
                name: (ctypes.c_void_p * len(column))(*[tensor.data_ptr() for tensor in column])
                for name, column in columns.items()
            }
            held = self._memory = weakref.ref(memory), made  # it is the engine's, and goes with it
        return held[1]

    def _tables(self, rows: Sequence[Rows], end: int) -> tuple[list[int], list[int], list[Tensor]]:
        """Addresses of the rows of cosines and sines, table by table; and what keeps them there."""
        known = {reach: self._tables_of(reach, end) for reach in {one.reach for one in rows}}
        into: tuple[list[int], list[int]] = [], []
        for number in range(len(self.description.tables)):
            for one in rows:
                for addresses, table in zip(into, known[one.reach][number], strict=True):
                    first, width = table.data_ptr(), 4 * table.size(1)
                    addresses += [first + width * (one.start + i) for i in range(one.count)]
        return *into, [table for found in known.values() for both in found for table in both]

    def _tables_of(self, reach: int, end: int) -> list[tuple[Tensor, Tensor]]:
        """Cosines and sines of all tables, below `end` and more; those of the last call again where they suffice."""
        held = self._rotary  # once, as of the memory
        if held is None or held[0] != reach or held[1] < end:
            device, found = self.decoder.model.embed_tokens.weight.device, list[tuple[Tensor, Tensor]]()
            for layer in self.description.tables:
                both = self.decoder.rope(layer, end, reach, device)
                assert both is not None
                found.append(both)
            held = self._rotary = reach, min((both[0].size(0) for both in found), default=end), found
        return held[2]
