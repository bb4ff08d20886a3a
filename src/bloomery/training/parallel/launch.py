"""Starting ranks: which process this one is, by torchrun's environment or alone, and further ones on this machine.

The first rank runs the command; the others are started as `python -m bloomery.training.follower` and do what it tells
them (see `world`). This module does not load PyTorch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from bloomery.core.errors import ConfigError

FOLLOWER = "bloomery.training.follower"
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_LOOPBACK = "127.0.0.1"


def launched() -> tuple[int, int] | None:
    """(rank, number of ranks) if torchrun, or another launcher that sets its variables, started this process.
    ConfigError where they make no sense."""
    if not all(os.environ.get(name) for name in _VARIABLES):
        return None
    rank, size = os.environ["RANK"], os.environ["WORLD_SIZE"]
    if not (rank.isdecimal() and size.isdecimal() and int(rank) < int(size)):
        raise ConfigError(
            f"RANK={rank!r:.20} and WORLD_SIZE={size!r:.20} are no rank of so many", hint="torchrun sets both"
        )
    return int(rank), int(size)


def is_follower() -> bool:
    """Whether this process was started to follow another one."""
    found = launched()
    return found is not None and found[0] > 0


def local_rank(rank: int) -> int:
    """This process's number on its machine."""
    return int(os.environ.get("LOCAL_RANK", rank))


def threads_each(ranks: int) -> int:
    """Threads for each of some ranks on this machine, so that together they have its cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // ranks)


def loopback() -> str:
    """Let what gloo connects stay on this machine; returns the address."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    return _LOOPBACK


class Followers:
    """Processes of the ranks 1 to `ranks` - 1."""

    def __init__(self, ranks: int, port: int) -> None:
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        for rank in range(1, ranks):
            command = [sys.executable, "-m", FOLLOWER]
            # Not our stdin: a Ctrl-C at the terminal reaches all, and the leader alone says what follows from it.
            self._started[rank] = subprocess.Popen(
                command, env=_environment(rank, ranks, port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )

    def ended(self) -> tuple[int, str] | None:
        """(rank, how it ended) of one that has ended; None while all live."""
        for rank, process in self._started.items():
            code = process.poll()
            if code is not None:
                return rank, how_it_ended(code)
        return None

    def kill(self) -> None:
        """End all that live, at once."""
        for process in self._started.values():
            if process.poll() is None:
                process.kill()
        for process in self._started.values():
            process.wait()

    def wait(self, seconds: float) -> None:
        """Let them end by themselves, and end those that do not."""
        until = time.monotonic() + seconds
        for process in self._started.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                break
        self.kill()


def _environment(rank: int, ranks: int, port: int) -> Mapping[str, str]:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": _LOOPBACK, "MASTER_PORT": port}
    threads = os.environ.get("OMP_NUM_THREADS") or str(threads_each(ranks))
    paths: Sequence[str] = [path for path in sys.path if path]
    return {
        **os.environ,
        **{name: str(value) for name, value in own.items()},
        "OMP_NUM_THREADS": threads,
        "PYTHONPATH": os.pathsep.join(paths),
    }


def how_it_ended(code: int) -> str:
    """A process's return code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
