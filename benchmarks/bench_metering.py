"""What metering costs: equal CPU work bare and inside a metered Run, alternating; prints the median ratio.

Times are CPU seconds of the process (threads included), so that other programs on the machine disturb less.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable

from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.energy import open_meter

PAIRS = 10
ROUNDS = 1200


def work() -> None:
    """Somewhat over half a second on one core: short, so that a run's fixed cost weighs more than it would."""
    block = bytes(1 << 20)
    for _ in range(ROUNDS):
        hashlib.sha256(block).digest()


def seconds(action: Callable[[], None]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        assert workspace.ledger

        def bare() -> None:
            work()

        def metered() -> None:
            with Run(workspace, StageInputs(stage="bench", config={}), meter=open_meter()):
                work()

        metered()  # imports and the git revision, once per process
        ratios = []
        for pair in range(PAIRS):
            order = (bare, metered) if pair % 2 == 0 else (metered, bare)
            times = {action: seconds(action) for action in order}
            ratios.append(times[metered] / times[bare])
    print(f"metered / bare: median {statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f})")


if __name__ == "__main__":
    main()
