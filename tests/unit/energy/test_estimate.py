"""The estimate's bounds, order and cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bloomery.energy import estimate
from bloomery.energy.estimate import EstimateMeter


def test_busy_second_lies_between_published_watts() -> None:
    meter = EstimateMeter()
    started = time.process_time()
    while time.process_time() - started < 0.2:
        pass
    reading = meter.read()
    assert reading.method == "estimated"
    assert reading.low is not None and reading.central is not None and reading.high is not None
    assert 0.2 * 3.5 / 2 * 0.9 <= reading.low < reading.central < reading.high
    assert reading.central >= 0.2 * 3.5 * 0.9  # the clock of os.times ticks in 10 ms


def test_never_decreases_and_reads_within_a_millisecond() -> None:
    meter = EstimateMeter()
    started, before = time.perf_counter(), meter.read()
    for _ in range(200):
        after = meter.read()
        assert (after.central or 0) >= (before.central or 0) and (after.low or 0) >= (before.low or 0)
        before = after
    assert (time.perf_counter() - started) / 200 < 1e-3


def test_describe_names_the_watts() -> None:
    assert "0.74 to 3.5 W" in EstimateMeter().describe()["cpu"]


CHILD = """
import time
while time.process_time() < 0.3: pass
print("done", flush=True)
input()
"""


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="the kernel lists no children")
def test_a_childs_work_counts_while_it_lives_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_LOOK_FOR_CHILDREN_SECONDS", 0.0)
    meter = EstimateMeter()
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline()
        alive = meter.read().low
        child.communicate(b"\n")
    ended = meter.read().low
    assert alive is not None and ended is not None
    # The clock of /proc ticks in 10 ms; 1.75 W is the low bound of a busy core.
    assert alive > 0.28 * 1.75 and ended >= alive
    assert ended - alive < 0.2 * 1.75


@pytest.mark.skipif(not Path(f"/proc/{os.getpid()}/stat").exists(), reason="the kernel shows no CPU seconds")
def test_others_that_do_our_work_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_descendants", lambda pid: iter(()))
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        with_it, without = EstimateMeter(others=(child.pid,)), EstimateMeter()
        assert child.stdout is not None and child.stdout.readline()
        readings = [meter.read().low for meter in (with_it, without)]
        child.communicate(b"\n")
    assert readings[0] is not None and readings[1] is not None
    assert readings[0] - readings[1] > 0.2 * 3.5 / 2
