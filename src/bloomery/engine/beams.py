"""Beam search over the engine's paged memory: beams share what they have in common, and part when they write.

The search itself is that of `text_decoding`; here are its steps. Other requests go on between them. This module does
not know how beams are ranked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.errors import DeviceError
from bloomery.core.quantity import Quantity
from bloomery.engine.blocks import BlockPool, OutOfBlocks, Table
from bloomery.engine.engine import Engine
from bloomery.engine.metering import Phase
from bloomery.engine.results import FinishReason, GenerationResult, Timings
from bloomery.engine.runner import Runner
from bloomery.models.adapter import Adapter
from bloomery.models.text_decoding import Hypothesis, beam_search
from bloomery.tokenizer import Tokenizer

_TAKEN, _FEWER = "other requests took the beams' memory", "try again, or fewer beams"


@dataclass(frozen=True, kw_only=True)
class Beam:
    """One text of a beam search. `logprob` in nats, an end token's included; `score` is what it is ranked by;
    `finish_reason` is "stop" at an end token, "length" at the limit."""

    text: str
    token_ids: list[int]
    logprob: float
    score: float
    finish_reason: str


class BeamsCut(Exception):
    """The search was cancelled, or its time was over: there is no text."""

    def __init__(self, reason: FinishReason) -> None:
        super().__init__(reason)
        self.reason: FinishReason = reason


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What ends a search early: the event, or the moment in `time.perf_counter()`'s seconds."""

    cancel: threading.Event | None = None
    deadline: float | None = None

    def check(self) -> None:
        """BeamsCut if it is so."""
        if self.cancel is not None and self.cancel.is_set():
            raise BeamsCut("cancelled")
        if self.deadline is not None and time.perf_counter() >= self.deadline:
            raise BeamsCut("deadline")


class BeamState:
    """Where the keys and values of each beam are: a table a row, `read` positions each. There is one of a search: steps
    and selections change it, for what was before is never asked for again. The pool is touched in steps of the engine
    only: between them it is others'."""

    def __init__(self, pool: BlockPool, tables: list[Table], read: int) -> None:
        self.pool, self.tables, self.read = pool, tables, read
        self._chosen: list[int] | None = None

    def select(self, rows: Tensor) -> BeamState:
        """These rows, which may repeat, from the next step on."""
        chosen = self._chosen
        self._chosen = rows.tolist() if chosen is None else [chosen[row] for row in rows.tolist()]
        return self

    def settle(self) -> None:
        """In a step: the tables become those that were selected."""
        if self._chosen is not None:
            chosen, self._chosen = [self.pool.fork(self.tables[row]) for row in self._chosen], None
            self.release()
            self.tables = chosen

    def release(self) -> None:
        """In a step: give the memory back; may be called twice."""
        for table in self.tables:
            self.pool.release(table)
        self.tables = []


class BeamSteps:
    """Meets `text_decoding.Stepping`, one exclusive step of the engine at a time."""

    def __init__(
        self,
        engine: Engine,
        adapter: Adapter | None = None,
        *,
        cut: Cut | None = None,
        phase: Callable[[], Phase] | None = None,
    ) -> None:
        """`phase` begins one: `phases` are then those of reading the prompt and of what comes after."""
        self._engine, self._adapter = engine, adapter
        self._cut = cut or Cut()
        self._new_phase = phase
        self.phases: list[Phase] = []
        self.state: BeamState | None = None

    def search(
        self, ids: list[int], *, beams: int, limit: int, length_penalty: float, eos: list[int]
    ) -> list[Hypothesis]:
        """The texts after a prompt, the best first, and nothing is held any more. BeamsCut when it was cut;
        DeviceError as `begin`."""
        try:
            self._begin_phase()
            state = self.begin(ids, len(ids) + limit, beams)
            self._begin_phase()
            return beam_search(
                self,
                state,
                torch.tensor(ids[-1:]),
                eos_token_id=eos,
                max_new_tokens=limit,
                num_beams=beams,
                length_penalty=length_penalty,
            )[0]
        finally:
            self.close()
            for phase in self.phases:
                phase.close()

    def _begin_phase(self) -> None:
        if self._new_phase is not None:
            for earlier in self.phases:
                earlier.close()
            self.phases.append(self._new_phase())

    @property
    def _phase(self) -> Phase | None:
        return self.phases[-1] if self.phases else None

    def begin(self, prompt_ids: list[int], most: int, beams: int) -> BeamState:
        """Read the prompt but its last token, which the first step takes. `most` positions may be used by each beam.

        DeviceError if `beams` of them have no room.
        """
        with self._engine.exclusive() as (runner, pool):
            if beams * pool.blocks_for(most) > pool.num_available:
                hint = "fewer beams or new tokens, or more memory: EngineConfig(cache_tokens=...)"
                raise DeviceError(f"no memory for the keys and values of {beams} beams", hint=hint)
            table = Table(room=pool.blocks_for(most), reach=runner.decoder.config.reach(most))
            self.state = BeamState(pool, [table], 0)
        part = self._engine.config.scheduler.prefill_tokens
        for start in range(0, len(prompt_ids) - 1, part):
            ids = prompt_ids[start : min(start + part, len(prompt_ids) - 1)]
            self._cut.check()
            with self._engine.exclusive(self._phase) as (runner, pool), torch.inference_mode():
                try:
                    pool.grow(table, start + len(ids))
                except OutOfBlocks:
                    raise DeviceError(_TAKEN, hint=_FEWER) from None
                runner.fill(ids, (table, start), self._adapter)
            self.state.read = start + len(ids)
        return self.state

    def step(self, state: BeamState, token_ids: Tensor) -> tuple[Tensor, BeamState, None]:
        """The last token of each beam (K,) -> logits (K, V)."""
        self._cut.check()
        with self._engine.exclusive(self._phase) as (runner, pool):
            try:
                logits = self._logits(runner, pool, state, token_ids)
            except OutOfBlocks:
                state.release()
                raise DeviceError(_TAKEN, hint=_FEWER) from None
        state.read += 1
        return logits, state, None

    def _logits(self, runner: Runner, pool: BlockPool, state: BeamState, token_ids: Tensor) -> Tensor:
        state.settle()
        copies = []
        for table in state.tables:
            pool.grow(table, state.read + 1)
            copy = pool.writable(table, state.read // pool.block_size)
            if copy is not None:
                copies.append(copy)
        with torch.inference_mode():
            runner.copy(copies)
            parts, places = [[i] for i in token_ids.tolist()], [(table, state.read) for table in state.tables]
            return runner.step(parts, places, [self._adapter] * len(parts))

    def close(self) -> None:
        """Give the memory back."""
        if self.state is not None:
            with self._engine.exclusive():
                self.state.release()


def results_of(
    found: Sequence[Hypothesis],
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int],
    beams: int,
    phases: Sequence[Phase],
    *,
    cut: FinishReason | None = None,
) -> list[GenerationResult]:
    """As many results as beams; where fewer texts were found, or the search was `cut`, the last are empty. The first
    has the cost of all of them, in `timings.steps` too: each made a token of every beam."""
    costs = [(phase.seconds, phase.energy()) for phase in phases]
    costs += [(0.0, Quantity.exact(0.0, "counter"))] * (2 - len(costs))
    results = []
    for place in range(beams):
        one = found[place] if place < len(found) else None
        (prefill, read), (decode, written) = costs if place == 0 else [(0.0, Quantity.exact(0.0, "counter"))] * 2
        ids = [] if one is None else one.token_ids
        timings = Timings(
            prefill_seconds=prefill,
            decode_seconds=decode,
            prompt_tokens=len(prompt_ids),
            new_tokens=len(ids),
            steps=phases[1].steps if place == 0 and len(phases) > 1 else 0,
        )
        results.append(
            GenerationResult(
                text=tokenizer.decode(ids),
                token_ids=ids,
                logprobs=[],
                finish_reason=cut or ("stop" if one is None or one.ended else "length"),
                prompt_token_ids=list(prompt_ids),
                seed=0,
                timings=timings,
                prefill_energy=read,
                decode_energy=written,
            )
        )
    return results
