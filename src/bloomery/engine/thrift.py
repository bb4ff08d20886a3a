"""Thrift: the threads, and whether they wait awake, with which a decode step takes the fewest joules.

A step of one text waits for memory: a second thread brings less than twice the speed, and threads that spin between two
steps draw power while Python works. What is thriftiest depends on the machine's idle watts, so it is measured, on the
loaded model, with the meter that its requests are counted by. This module does not know how joules are read, nor does
it look at prompts, which arithmetic limits: the sooner they are over, the fewer joules.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch

from bloomery.core.run import Meter
from bloomery.models.native.library import SPIN_NANOSECONDS
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.paged import PagedMemory, Rows

_ROUNDS = 3
_SECONDS = 0.3
"""Of a round of a candidate: counters of energy change a thousand times a second and less often."""
_SHOWN = 4


@dataclass(frozen=True)
class Way:
    """A way to wait, and what a token then takes."""

    threads: int
    spin_nanoseconds: int
    joules: float
    seconds: float

    def __str__(self) -> str:
        waits = "" if self.threads == 1 else " awake" if self.spin_nanoseconds else " asleep"
        one = "thread" if self.threads == 1 else "threads"
        return f"{self.threads} {one}{waits} {self.joules * 1e3:.3g} mJ a token at {1 / self.seconds:.4g}/s"


def thriftiest(native: NativeDecoder, memory: PagedMemory, meter: Meter) -> tuple[tuple[int, int] | None, str]:
    """The threads, and the nanoseconds that they wait awake, of a decoder's steps that take the fewest joules (the
    central value, of one text after 32 tokens); what was measured, in words. None where the meter knows no joules."""
    method = meter.read().method
    if method == "unknown":
        return None, "joules unknown here: as for speed"
    found: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for _ in range(_ROUNDS):
        for way in _ways(native.most_threads):
            found.setdefault(way, []).append(_measured(native, memory, meter, way))
    ways = [Way(*way, *(median(column) for column in zip(*rows, strict=True))) for way, rows in found.items()]
    ways.sort(key=lambda way: way.joules)
    if ways[0].joules <= 0:
        return None, "the meter counts no joules of so short a time: as for speed"
    told = f"for the fewest joules ({method}) {ways[0]}"
    others = f", rather than {', '.join(map(str, ways[1:_SHOWN]))}" if ways[1:] else ""
    return (ways[0].threads, ways[0].spin_nanoseconds), told + others


def _ways(most: int) -> list[tuple[int, int]]:
    """One thread, which waits for nobody, and 2, 4, ... up to all of them, awake and asleep between steps."""
    counts = sorted({most, *(1 << n for n in range(1, most.bit_length()) if 1 << n <= most)} - {1})
    return [(1, SPIN_NANOSECONDS), *((count, spin) for count in counts for spin in (SPIN_NANOSECONDS, 0))]


@torch.inference_mode()
def _measured(native: NativeDecoder, memory: PagedMemory, meter: Meter, way: tuple[int, int]) -> tuple[float, float]:
    """Joules and seconds of a token, each chosen from the logits before, as a greedy text is."""
    config = native.decoder.config
    length = min(32, config.context_length, memory.num_positions)
    rows, token = [Rows(length - 1, 1, [(0, length)], config.reach(length))], 0
    for column in (*memory.keys, *memory.values):
        column[:length].zero_()  # nobody has written there yet
    native.step(memory, rows, [[token]], way=way)  # its threads are there
    began, before, steps = time.perf_counter(), meter.read(), 0
    while (seconds := time.perf_counter() - began) < _SECONDS:
        token = int(native.step(memory, rows, [[token]], way=way).argmax())
        steps += 1
    return ((meter.read() - before).central or 0.0) / steps, seconds / steps
