"""Threads: how many a run on a CPU takes, by measurement: half of them while that is faster.

Sharing out small products costs time of its own, and two threads of one core are not two cores. This module does not
know how steps are timed (`speed`).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import torch

from bloomery.training.planning.plan import PlanRequest
from bloomery.training.speed import FewerThreads, StepTime

_FASTER = 0.97
_STEPS = 4  # that a comparison takes at least
_FIGHT, _PRODUCTS, _SIZE = 0.7, 9, 512


def may_choose_threads(request: PlanRequest) -> bool:
    """Whether the number is ours to choose: not where the user set it, nor where there is but one. A run of so many
    steps keeps what it has: it is the kind that comes to the same bits again, and threads decide how sums are rounded.
    """
    return _are_ours(request) and request.budget.kind != "steps"


def advice_on_threads(request: PlanRequest) -> list[str]:
    """For a run that keeps its threads to come to the same bits: what to say if they fight for the processors."""
    threads = torch.get_num_threads()
    if not _are_ours(request) or request.budget.kind != "steps" or not threads_fight(threads, threads // 2):
        return []
    return [
        f"{_named(threads)}, as for every run of so many steps, are slower than {_named(threads // 2)} at this moment:"
        f" something else wants the processors; OMP_NUM_THREADS={threads // 2} takes fewer, to other last bits"
    ]


def _are_ours(request: PlanRequest) -> bool:
    own = not os.environ.get("OMP_NUM_THREADS")
    return request.tries_threads and own and request.device.type == "cpu" and torch.get_num_threads() > 1


def choose_threads(
    timing: StepTime,
    seconds: float,
    compare: Callable[[int, int, float], FewerThreads],
    fight: Callable[[int, int], bool] | None = None,
) -> tuple[int, StepTime, str]:
    """The number of threads, a step's time with them, and what to say of it; `timing` is with all of them.

    `compare` times more against fewer threads within so many seconds; `seconds` is what all comparisons may take. Where
    others want the processors (`fight`, by default `threads_fight`) steps are so slow that it takes longer, and pays.
    """
    threads, began, said = torch.get_num_threads(), time.perf_counter(), list[str]()
    while threads > 1:
        left = seconds - (time.perf_counter() - began)
        too_long = timing.build_seconds + timing.first_seconds + _STEPS * timing.seconds > left
        if too_long and not (fight or threads_fight)(threads, threads // 2):
            said.append(f"{_named(threads)}: to try fewer would take too much of this run's time")
            break
        fewer = threads // 2
        found = compare(threads, fewer, max(0.0, left if fewer == 1 else left / 2))
        if found.share > _FASTER:
            said.append(f"{_named(threads)}: with {fewer} a step takes {found.share:.2f} of the time, not clearly less")
            break
        said.append(f"{_named(fewer)}: {found.share:.2f} of the time of {threads} (other sizes are as timed with more)")
        threads, timing = fewer, timing.with_threads(found)
    return threads, timing, "; ".join(said)


def threads_fight(threads: int, fewer: int) -> bool:
    """Whether products of matrices take clearly longer with more threads, as where something else wants the processors:
    a thread that does not run lets all others wait. Takes some hundredths of a second, or more where it is so."""
    before, x = torch.get_num_threads(), torch.ones(_SIZE, _SIZE)
    times: dict[int, list[float]] = {threads: [], fewer: []}
    try:
        for _ in range(_PRODUCTS):
            for count, taken in times.items():
                torch.set_num_threads(count)
                began = time.perf_counter()
                x @ x
                taken.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return statistics.median(times[fewer]) < _FIGHT * statistics.median(times[threads])


def _named(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"
