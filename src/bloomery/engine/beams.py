"""Beam search over the engine's paged memory: beams share what they have in common, and part when they write.

The search itself is that of `text_decoding`; here are its steps. Other requests go on between them. This module does
not know how beams are ranked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.errors import DeviceError
from bloomery.engine.blocks import BlockPool, OutOfBlocks, Table
from bloomery.engine.engine import Engine
from bloomery.engine.runner import Runner
from bloomery.models.adapter import Adapter

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


class BeamState:
    """Where the keys and values of each beam are: a table a row, `read` positions each. There is one of a search: steps
    and selections change it, for what was before is never asked for again."""

    def __init__(self, pool: BlockPool, tables: list[Table], read: int) -> None:
        self.pool, self.tables, self.read = pool, tables, read

    def select(self, rows: Tensor) -> BeamState:
        """These rows, which may repeat."""
        chosen = [self.pool.fork(self.tables[row]) for row in rows.tolist()]
        self.release()
        self.tables = chosen
        return self

    def release(self) -> None:
        """Give the memory back; may be called twice."""
        for table in self.tables:
            self.pool.release(table)
        self.tables = []


class BeamSteps:
    """Meets `text_decoding.Stepping`, one exclusive step of the engine at a time."""

    def __init__(self, engine: Engine, adapter: Adapter | None = None) -> None:
        self._engine, self._adapter = engine, adapter
        self.state: BeamState | None = None

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
            with self._engine.exclusive() as (runner, pool), torch.inference_mode():
                try:
                    pool.grow(table, start + len(ids))
                except OutOfBlocks:
                    raise DeviceError(_TAKEN, hint=_FEWER) from None
                runner.fill(ids, (table, start), self._adapter)
            self.state.read = start + len(ids)
        return self.state

    def step(self, state: BeamState, token_ids: Tensor) -> tuple[Tensor, BeamState, None]:
        """The last token of each beam (K,) -> logits (K, V)."""
        with self._engine.exclusive() as (runner, pool):
            try:
                logits = self._logits(runner, pool, state, token_ids)
            except OutOfBlocks:
                state.release()
                raise DeviceError(_TAKEN, hint=_FEWER) from None
        state.read += 1
        return logits, state, None

    def _logits(self, runner: Runner, pool: BlockPool, state: BeamState, token_ids: Tensor) -> Tensor:
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
