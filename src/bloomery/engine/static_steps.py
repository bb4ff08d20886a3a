"""StaticSteps: decode steps of fixed shapes, replayed as CUDA graphs or compiled.

At small batches a GPU computes a decode step faster than Python can ask for its operators. So for batches and lengths
rounded up to powers of two the step is recorded once and then replayed whole (CUDA graphs), or compiled
(torch.compile). What each gives is what `PagedStep` gives, up to the order of sums. The tests compare "plain", the same
step run operator by operator, on a CPU; recording itself has not been run on a GPU yet, and is off unless asked for.
This module does not know requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder
from bloomery.models.paged import PagedMemory, Rows
from bloomery.models.static_step import StaticStep, why_not

STATIC = ("off", "plain", "compile", "graph")
"""How decode steps may be made static; "plain" gains nothing by itself."""
_LEAST_LENGTH = 128
_WARM_UP = 3
"""Runs before a recording: libraries choose kernels and take workspace in the first ones."""


def check_static(how: str, config: ModelConfig, device: torch.device) -> None:
    """ConfigError where a model or a device has no such steps."""
    reason = why_not(config)
    if reason:
        raise ConfigError(f"no static steps for {config.model_type}: {reason}", hint='static_steps="off"')
    if how == "graph" and device.type != "cuda":
        raise ConfigError("graphs are recorded on a GPU only", hint='static_steps="off"')


class StaticSteps:
    """Steps of a decoder over one memory, by their size. Memory of what is recorded stays taken."""

    def __init__(self, decoder: Decoder, memory: PagedMemory, how: str) -> None:
        device = decoder.model.embed_tokens.weight.device
        check_static(how, decoder.config, device)
        self._decoder, self._memory, self._how, self._device = decoder, memory, how, device
        self._made: dict[tuple[int, int], tuple[StaticStep, Callable[[], Tensor]]] = {}
        self._pool: Any = None
        self._tables: list[Any] = []

    def forget(self) -> None:
        """The weights are others: what was recorded reads the old ones."""
        self._made.clear()
        self._tables.clear()
        self._pool = None

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], rows: Sequence[Rows]) -> Tensor:
        """The token of each row, read at its place -> (N, V) float32 on the CPU."""
        longest = max(one.start + 1 for one in rows)
        size = _rounded(len(rows), 1), min(_rounded(longest, _LEAST_LENGTH), max(longest, self._memory.num_positions))
        if size not in self._made:
            self._made[size] = self._make(*size, ids, rows)
        step, run = self._made[size]
        step.fill(ids, rows)
        return run()[: len(rows)].to(device="cpu", dtype=torch.float32)

    def _make(
        self, batch: int, length: int, ids: Sequence[int], rows: Sequence[Rows]
    ) -> tuple[StaticStep, Callable[[], Tensor]]:
        step = StaticStep(self._memory, self._decoder.config, batch, length, self._device)

        def run() -> Tensor:
            return self._decoder.logits(self._decoder.hidden_states(step.ids, cache=step)[0])

        if self._how == "compile":
            return step, torch.compile(run, dynamic=False)
        if self._how == "plain":
            return step, run
        step.fill(ids, rows)  # what is written while warming up is what will be written then
        return step, self._recorded(run)

    def _recorded(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """The step as one graph. All share a pool of memory, for they run one after the other; a graph's result is
        read before the next is replayed."""
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                run()
        torch.cuda.current_stream(self._device).wait_stream(stream)
        # A graph knows addresses only: rotary tables must not be dropped while it is there.
        self._tables.append(dict(self._decoder.kept_tables))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = run()
        self._pool = self._pool or graph.pool()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay


def _rounded(number: int, least: int) -> int:
    """The next power of two from `least` on."""
    return max(least, 1 << (number - 1).bit_length())
