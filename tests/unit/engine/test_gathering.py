"""Work of several threads together: everybody's answer, one step for many, errors where they belong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from bloomery.core.quantity import Quantity
from bloomery.engine.gathering import Gathering
from bloomery.engine.metering import Bench, Phase


class _Meter:
    """A joule a second of the clock."""

    def read(self) -> Quantity:
        return Quantity.exact(time.perf_counter(), "counter")

    def close(self) -> None: ...


def _gathering(
    work: Callable[[Sequence[int]], Sequence[int]], capacity: int = 100
) -> tuple[Gathering[int, int], Bench]:
    bench = Bench(_Meter())  # type: ignore[arg-type]
    return Gathering(lambda: bench, work, capacity=capacity), bench


def test_what_is_asked_meanwhile_is_computed_together():
    seen: list[list[int]] = []

    def work(jobs: Sequence[int]) -> list[int]:
        seen.append(list(jobs))
        time.sleep(0.02)
        return [2 * job for job in jobs]

    gathering, bench = _gathering(work, capacity=8)
    phases = [Phase(bench) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: gathering.ask(n, 2, phases[n]), range(20)))
    assert answers == [2 * n for n in range(20)]
    assert sorted(n for batch in seen for n in batch) == list(range(20))
    assert max(map(len, seen)) == 4  # as many as there is room for
    stats = gathering.stats()
    assert (stats.asked, stats.size, stats.most, stats.waiting) == (20, 40, 4, 0) and stats.steps == len(seen) < 12
    assert all(phase.seconds >= 0.02 for phase in phases)


def test_members_share_every_step():
    """Each asks again and again; without waiting for each other, they would take turns."""
    gathering, bench = _gathering(lambda jobs: [time.sleep(0.001), jobs][1])
    barrier = threading.Barrier(3)

    def ask(_: int) -> None:
        phase = Phase(bench)
        with gathering.member():
            barrier.wait()
            for step in range(30):
                assert gathering.ask(step, 1, phase) == step

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ask, range(3)))
    stats = gathering.stats()
    assert stats.asked == 90 and stats.steps < 60


def test_one_larger_than_a_step_and_one_that_fails():
    def work(jobs: Sequence[int]) -> list[int]:
        time.sleep(0.01)
        if 3 in jobs:
            raise ValueError("three")
        return list(jobs)

    gathering, bench = _gathering(work)
    assert gathering.ask(1, 1000, Phase(bench)) == 1

    def ask(job: int) -> int | str:
        try:
            return gathering.ask(job, 1, Phase(bench))
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == [0, 1, 2, "three", 4, 5]


def test_an_interrupt_leaves_nobody_waiting():
    def work(jobs: Sequence[int]) -> list[int]:
        if 0 in jobs:
            raise KeyboardInterrupt
        return list(jobs)

    gathering, bench = _gathering(work)
    with pytest.raises(KeyboardInterrupt):
        gathering.ask(0, 1, Phase(bench))
    assert gathering.ask(1, 1, Phase(bench)) == 1
