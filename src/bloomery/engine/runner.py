"""Runner: computes a plan: prompts part by part, then one step of all sequences that decode.

A part of a prompt is computed by itself, in native code or by PyTorch, with no row of another sequence in its products;
the sequences that decode are one batch, or two where some have adapters or guesses and steps are native or static. This
module does not know who is next (see `scheduler`) nor what is chosen (see `sampling`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from bloomery.engine.blocks import Copy, Table
from bloomery.engine.sampling import Known, LogProbabilities
from bloomery.engine.sequence import SequenceState
from bloomery.engine.static_steps import StaticSteps
from bloomery.models.adapted import adapted_rows
from bloomery.models.attention import RaggedCache
from bloomery.models.config import ModelConfig
from bloomery.models.native.library import Sums
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.paged import PagedMemory, PagedStep, Rows


class _Batch(NamedTuple):
    """Of a step, the texts whose rows are `fast` (native or static), or those whose are not."""

    fast: bool
    chosen: list[int]
    parts: list[Sequence[int]]
    places: list[tuple[Table, int]]
    adapters: list[Any]


class Decoding(Protocol):
    """What is asked of a model; see `Decoder`."""

    config: ModelConfig

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def hidden_states(
        self, input_ids: Tensor, *, cache: RaggedCache, inputs_embeds: Tensor | None = None
    ) -> Tensor: ...

    def logits(self, hidden: Tensor) -> Tensor: ...


class Runner:
    """A model and its memory of keys and values, in blocks of `block_size` positions."""

    def __init__(
        self,
        decoder: Decoding,
        memory: PagedMemory,
        block_size: int,
        *,
        native: NativeDecoder | None = None,
        native_prompts: bool = True,
        static: StaticSteps | None = None,
        keeps_states: bool = False,
        way: tuple[int, int] | None = None,
    ) -> None:
        """Without an adapter, `native` makes the steps of texts that decode, or `static` those of one token; with
        `native_prompts` it reads prompts, too: which of them a text takes must not depend on who else is there.
        `keeps_states`: each sequence gets the `states` of its last step. `way` is how native steps of texts that decode
        are made (see `thrift`)."""
        self.decoder, self.memory, self.block_size = decoder, memory, block_size
        self.keeps_states, self.way = keeps_states, way
        self.native, self.static = native, static
        self.native_prompts = native is not None and native_prompts
        self.device = next(decoder.parameters()).device

    def copy(self, copies: Sequence[Copy]) -> None:
        """Copy blocks."""
        size = self.block_size
        for source, target in copies:
            self.memory.copy(slice(source * size, (source + 1) * size), slice(target * size, (target + 1) * size))

    def prefill(self, sequence: SequenceState, count: int, between: Callable[[], None] | None = None) -> Tensor | None:
        """Read `count` more tokens; logits float32 on the CPU of all of them (count, V) if the prompt is scored, of the
        last one (1, V) if the text is whole then, else None. `between` is called after each layer of a long part
        but the last: the runner may be used for other sequences there."""
        start, end, request = sequence.read, sequence.read + count, sequence.request
        scores = request.scores_prompt and sequence.scored < sequence.num_prompt
        wanted = count if scores else int(end == len(sequence.ids))
        embeds = None
        if request.embed is not None and start < sequence.num_prompt:
            embeds = self._embedded(sequence, start, end)
        place = sequence.table, start
        part = sequence.ids[start:end]
        states = self._states(wanted)
        made = self.fill(part, place, request.adapter, wanted=wanted, embeds=embeds, between=between, states=states)
        sequence.states = None if states is None else (end - wanted, states)
        return made

    def fill(
        self,
        part: Sequence[int],
        place: tuple[Table, int],
        adapter: Any = None,
        *,
        wanted: int = 0,
        embeds: Tensor | None = None,
        between: Callable[[], None] | None = None,
        states: Tensor | None = None,
    ) -> Tensor | None:
        """Read a part of one prompt into its table: logits of its `wanted` last tokens, None of none, and `states`."""
        if self.native is not None and self.native_prompts and not adapter and embeds is None:
            made = self.native.prefill(self.memory, self._rows(*place, len(part)), part, wanted, between, states)
            return made if wanted else None
        with adapted_rows([(adapter, len(part))]):
            hidden = self.read([part], [place], embeds, between)[-wanted or None :]
            return self._logits_and(states, hidden) if wanted else None

    def decode(self, sequences: Sequence[SequenceState]) -> list[tuple[Tensor, list[LogProbabilities]]]:
        """Read the last token of each, and its guesses: for each, logits float32 on the CPU, 1 + guesses rows, and the
        log-probabilities of each row."""
        parts = [[sequence.ids[-1], *sequence.draft] for sequence in sequences]
        places = [(one.table, one.read) for one in sequences]
        made: list[tuple[Tensor, list[LogProbabilities]]] = [(torch.empty(0), [])] * len(parts)
        for batch in self._batches(parts, places, [one.request.adapter for one in sequences]):
            sizes = [len(part) for part in batch.parts]
            sums = Sums(sum(sizes)) if batch.fast and self.native is not None else None
            states = self._states(sum(sizes))
            logits = self._logits_of(batch, sums, states)
            known = None if sums is None else map(Known, sums.logs, sums.best)
            # Row by row: for a single one PyTorch wakes no thread, which would stay awake where the next step's are.
            for at, rows in zip(batch.chosen, logits.split(sizes) if len(sizes) > 1 else [logits], strict=True):
                made[at] = rows, [LogProbabilities(row, None if known is None else next(known)) for row in rows]
            for at, own in zip(batch.chosen, () if states is None else states.split(sizes), strict=states is not None):
                sequences[at].states = sequences[at].read, own
        return made

    def step(
        self, parts: Sequence[Sequence[int]], places: Sequence[tuple[Table, int]], adapters: Sequence[Any]
    ) -> Tensor:
        """`read` and `logits` of it, in one batch or two: texts whose steps are native or static, and the others."""
        made: list[Tensor] = [torch.empty(0)] * len(parts)
        for batch in self._batches(parts, places, adapters):
            found = self._logits_of(batch)
            if len(batch.chosen) == len(parts):
                return found
            for at, rows in zip(batch.chosen, found.split([len(part) for part in batch.parts]), strict=True):
                made[at] = rows
        return torch.cat(made)

    def _batches(
        self, parts: Sequence[Sequence[int]], places: Sequence[tuple[Table, int]], adapters: Sequence[Any]
    ) -> Iterator[_Batch]:
        fast = [self._is_fast(part, adapter) for part, adapter in zip(parts, adapters, strict=True)]
        for kind in set(fast):
            all_of = [at for at, one in enumerate(fast) if one is kind]
            yield _Batch(
                kind,
                all_of,
                [parts[at] for at in all_of],
                [places[at] for at in all_of],
                [adapters[at] for at in all_of],
            )

    def _states(self, count: int) -> Tensor | None:
        """Room for so many."""
        return torch.empty(count, self.decoder.config.hidden_size) if self.keeps_states else None

    def _logits_and(self, states: Tensor | None, hidden: Tensor) -> Tensor:
        """The logits of hidden states, which are kept where they are asked for."""
        if states is not None:
            states.copy_(hidden)
        return self.logits(hidden)

    def _logits_of(self, batch: _Batch, sums: Sums | None = None, states: Tensor | None = None) -> Tensor:
        """(N, V)."""
        if not batch.fast:
            sizes = [len(part) for part in batch.parts]
            with adapted_rows(list(zip(batch.adapters, sizes, strict=True))):
                return self._logits_and(states, self.read(batch.parts, batch.places))
        rows = self._placed(batch.parts, batch.places)
        if self.native is not None:
            return self.native.step(self.memory, rows, batch.parts, sums, states, self.way)
        assert self.static is not None
        return self.static.logits([part[0] for part in batch.parts], rows)

    def _is_fast(self, part: Sequence[int], adapter: Any) -> bool:
        """Whether a text's step is native or static: a matter of the text alone."""
        return not adapter and (self.native is not None or (self.static is not None and len(part) == 1))

    def read(
        self,
        parts: Sequence[Sequence[int]],
        places: Sequence[tuple[Table, int]],
        embeds: Tensor | None = None,
        between: Callable[[], None] | None = None,
    ) -> Tensor:
        """Read the new tokens of several texts, each into its table after so many positions: hidden states (N, E)."""
        rows = self._placed(parts, places)
        ids = torch.tensor([[i for part in parts for i in part]], dtype=torch.int64, device=self.device)
        step = PagedStep(self.memory, rows, self.device, between)
        return self.decoder.hidden_states(ids, cache=step, inputs_embeds=embeds)[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """(N, E) -> (N, V), float32 on the CPU."""
        return self.decoder.logits(hidden).to(device="cpu", dtype=torch.float32)

    def _placed(self, parts: Sequence[Sequence[int]], places: Sequence[tuple[Table, int]]) -> list[Rows]:
        return [self._rows(table, start, len(part)) for part, (table, start) in zip(parts, places, strict=True)]

    def _rows(self, table: Table, start: int, count: int) -> Rows:
        """The runs of memory that hold `start` positions and the `count` that are read now."""
        rest, runs = start + count, []
        for first, blocks in table.runs:
            length = min(rest, blocks * self.block_size)
            if length <= 0:
                break
            runs.append((first * self.block_size, length))
            rest -= length
        return Rows(start, count, runs, table.reach)

    def _embedded(self, sequence: SequenceState, start: int, end: int) -> Tensor:
        """Embeddings of positions from .. to: the prompt's own, and of new tokens if they are read again."""
        assert sequence.request.embed is not None
        inside = min(end, sequence.num_prompt)
        prompt = sequence.request.embed(start, inside)
        if inside == end:
            return prompt
        row = torch.tensor([sequence.ids[inside:end]], dtype=torch.int64, device=self.device)
        return torch.cat((prompt, self.decoder.embed(row)), dim=1)  # type: ignore[attr-defined]
