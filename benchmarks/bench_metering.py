"""What metering costs: equal CPU work bare and inside a metered Run, alternating; prints the median ratio.

CPU seconds of the process (threads included) are disturbed less by other programs; wall seconds include waiting for
the disk. The work takes longer than a heartbeat, so that heartbeats are part of what is measured.

Those ratios are as noisy as the machine; bare / bare, taken in the same way, says how noisy. What metering does while
a run goes on is one reading and one line in the event log a second, so its share is also timed directly: CPU seconds of
a heartbeat (with its look for children, which quick readings leave out), and of opening and closing a run.
"""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable

from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.energy import estimate, open_meter

PAIRS = 5
WORK_SECONDS = 3.0


def work(rounds: int) -> None:
    block = bytes(1 << 20)
    for _ in range(rounds):
        hashlib.sha256(block).digest()


def seconds(action: Callable[[], None]) -> tuple[float, float]:
    """(CPU, wall) seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    action()
    return time.process_time() - cpu, time.perf_counter() - wall


def rounds_for(target: float) -> int:
    """Rounds of work that take about `target` CPU seconds here."""
    return max(1, round(100 * target / seconds(lambda: work(100))[0]))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        assert workspace.ledger

        rounds = rounds_for(WORK_SECONDS)

        def bare() -> None:
            work(rounds)

        def control() -> None:
            work(rounds)

        def metered() -> None:
            with Run(workspace, StageInputs(stage="bench", config={}), meter=open_meter()):
                work(rounds)

        metered()  # imports and the git revision, once per process
        ratios: dict[str, list[float]] = {}
        for pair in range(PAIRS):
            order = (bare, metered, control) if pair % 2 == 0 else (control, metered, bare)
            times = {action: seconds(action) for action in order}
            for i, clock in enumerate(("CPU", "wall")):
                for what, action in (("metered", metered), ("bare", control)):
                    found = ratios.setdefault(f"{clock}: {what} / bare", [])
                    found.append(times[action][i] / times[bare][i])
        share = heartbeat_seconds(workspace)
        opening = min(seconds(lambda: _empty_run(workspace))[0] for _ in range(5))
    print(
        f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}; {PAIRS} pairs, {rounds} rounds"
    )
    for name, found in ratios.items():
        print(f"{name} median {statistics.median(found):.4f} ({min(found):.4f} to {max(found):.4f})")
    print(f"a heartbeat a second: {share * 1e3:.3f} ms of CPU, {share:.3%} of one core")
    print(f"a run's start and end: {opening:.3f} s of CPU")


def heartbeat_seconds(workspace: Workspace, count: int = 2000) -> float:
    """CPU seconds of one heartbeat: the meter read, the event written."""
    estimate._LOOK_FOR_CHILDREN_SECONDS = 0.0  # as a heartbeat a second finds it
    with Run(workspace, StageInputs(stage="bench", config={}), meter=open_meter()) as run:

        def beats() -> None:
            for _ in range(count):
                run.event("heartbeat", seconds=run.seconds, energy_joules=run.energy_joules.to_dict())

        return seconds(beats)[0] / count


def _empty_run(workspace: Workspace) -> None:
    with Run(workspace, StageInputs(stage="bench", config={}), meter=open_meter()):
        pass


if __name__ == "__main__":
    main()
