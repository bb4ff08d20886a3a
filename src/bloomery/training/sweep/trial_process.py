"""TrialProcess: one trial in a process of its own, which asks at each point of its curve whether to go on.

Messages of the child: ("waiting", for what), ("run", id), ("point", share, mean loss), which waits for "", PAUSE or why
to stop, and in the end ("done", outcome), ("paused",), ("stopped", why) or ("failed", why). The first point after a
checkpoint also has the share where that was, and the sum of the losses up to there as a share of all steps: so it is
known what a kill left untold. A paused trial has saved: the same work goes on from there. This module does not know
Optuna or recipes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bloomery.core.errors import ArtifactError, BloomeryError, InUseError
from bloomery.core.events import Event, Listener
from bloomery.core.workspace import Workspace, scratch_lock
from bloomery.energy import Sharers, sharing

PAUSE = "pause"
_LOOK_AGAIN_SECONDS = 2.0
PARTS = 50
"""Points of a curve that are reported."""


@dataclass(frozen=True)
class Outcome:
    """What a trial that was let end came to: its figure, and the name of its artifact."""

    value: float
    artifact: str


TrialWork = Callable[[Mapping[str, Any], Listener], Outcome]
"""(values of the dials, who should hear the run's events) -> its outcome; importable, for another process runs it. An
attribute `imports` may name modules that it needs, to be imported once for all trials."""


class TrialStopped(BloomeryError):
    """Raised inside a trial's run when it is hopeless."""


class _Reporter:
    """A listener that tells the parent of runs and points, and raises where it says to stop."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._step, self._sum = 0, 0.0
        self._told, self._resumed = 0, False
        self._waits_for = ""
        self._before: tuple[float, ...] = ()
        self.run, self.paused = "", False

    def waits(self, why: str) -> None:
        """Say once what is waited for."""
        if why != self._waits_for:
            self._waits_for = why
            self._ask("waiting", why)

    def __call__(self, event: Event) -> None:
        if event.kind == "start":
            self.run, self._step, self._sum, self._told, self._resumed = event.run, 0, 0.0, 0, False
            self._before = ()
            self._ask("run", event.run)
        elif event.kind == "resume":
            # What was reported before the kill is known; the sum goes on from the next point.
            self._step, self._sum, self._resumed = int(event.data["step"]), float(event.data["loss_sum"]), True
        elif event.kind == "curve":
            self._point(event.data)

    def _point(self, data: Mapping[str, Any]) -> None:
        # A run of minutes may change its total on the way, and then says itself where in its schedule it is.
        share, steps = float(data.get("share", data["step"] / data["total"])), data["step"] - self._step
        if self._resumed:  # in the middle of a part: it is told at its end, for one step's loss says little
            at = share - steps / data["total"]
            self._told, self._resumed = int(at * PARTS + 1e-9), False
            # Where minutes change the total on the way, a share is no number of steps.
            self._before = () if "share" in data else (at, self._sum / data["total"])
        if int(share * PARTS) <= self._told or steps <= 0:
            return
        mean = (data["loss_sum"] - self._sum) / steps
        self._told, self._step, self._sum = int(share * PARTS), data["step"], data["loss_sum"]
        before, self._before = self._before, ()
        why = self._ask("point", share, mean, *before, answered=True)
        if why == PAUSE:
            self.paused = True
            raise KeyboardInterrupt  # the loop saves, and ends as if somebody had pressed Ctrl-C
        if why:
            raise TrialStopped(why)

    def _ask(self, *message: Any, answered: bool = False) -> str:
        """What the parent answers; EOFError where it has gone (an OSError would be told as one of the disk)."""
        try:
            self._connection.send(message)
            return self._connection.recv() if answered else ""
        except OSError as error:
            raise EOFError("the sweep has gone") from error


def _work(
    connection: Connection, work: TrialWork, values: Mapping[str, Any], root: Path, sharers: int | Sharers
) -> None:
    """In the child, one of so many on this machine."""
    reporter = _Reporter(connection)
    try:
        with sharing(sharers):
            made = _made(connection, work, values, reporter, root)
        connection.send(("done", {"value": made.value, "artifact": made.artifact}))
    except TrialStopped as stopped:
        forget(root, reporter.run)
        connection.send(("stopped", stopped.message))
    except BloomeryError as error:
        connection.send(("failed", error.one_line()))
    except (KeyboardInterrupt, EOFError, ConnectionError):
        if reporter.paused:
            connection.send(("paused",))
        return  # who asked has gone, or is going: the run's checkpoints are there for the next time
    finally:
        connection.close()


def _in_process(environment: Mapping[str, str], *given: Any) -> None:
    """`_work` with the environment of who asked: the process that this one is forked from has an older one."""
    os.environ.clear()
    os.environ.update(environment)
    _work(*given)


def _made(
    connection: Connection, work: TrialWork, values: Mapping[str, Any], reporter: _Reporter, root: Path
) -> Outcome:
    """What the work comes to; where another sweep is at the same training, what that comes to or leaves."""
    while True:
        try:
            return work(values, reporter)
        except InUseError as error:
            folder = root / "scratch"
            if not folder.is_dir():  # a lock in it is then never free
                raise ArtifactError(f"{folder} has gone", hint="run the same command again") from None
            reporter.waits(error.message)
            if connection.poll(_LOOK_AGAIN_SECONDS):  # only to say that it should end
                raise EOFError("the sweep has gone") from None


def forget(root: Path, run: str) -> None:
    """Remove a run's checkpoints, for nobody will go on from them; not while another process does."""
    workspace = Workspace(root)
    try:
        row = workspace.ledger.run(run)
    finally:
        workspace.ledger.close()
    scratch = workspace.scratch_of(row["stage"], row["key"])
    lock = scratch_lock(scratch)
    if lock.try_acquire():
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()


def _context(work: TrialWork) -> Any:
    """How a trial's process begins: on Linux forked off one that has imported torch and what else a trial needs, and
    does nothing else; to import it each time takes seconds. What threads it has are those of BLAS, idle, which know
    what a fork is. Elsewhere (libraries of macOS do not) a process begins anew."""
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["bloomery.training", *getattr(work, "imports", ())])
    return context


class TrialProcess:
    """A started trial, one of so many on its machine. `connection` is what `multiprocessing.connection.wait` takes."""

    def __init__(self, work: TrialWork, values: Mapping[str, Any], root: Path, *, sharers: int | Sharers = 1) -> None:
        context = _context(work)
        self.values = dict(values)
        self.connection, theirs = context.Pipe()
        given = (dict(os.environ), theirs, work, self.values, root, sharers)
        self._process = context.Process(target=_in_process, args=given, daemon=False)
        self._process.start()
        theirs.close()

    def message(self) -> tuple[Any, ...]:
        """The next message; ("failed", why) where the process ended without a word."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            return ("failed", f"its process ended with code {self._process.exitcode}")

    def answer(self, why: str) -> None:
        """Go on (""), PAUSE, or stop and why."""
        self.connection.send(why)

    def leave(self) -> None:
        """Have it save and end at its next point, if it has not gone, and wait for that."""
        with contextlib.suppress(OSError):
            self.connection.send(PAUSE)
        self._process.join()
        self.connection.close()

    def join(self) -> None:
        """Wait for its end."""
        self.connection.close()
        self._process.join()


class TrialThread(TrialProcess):
    """The same in a thread, of a process that has nothing else to do."""

    def __init__(self, work: TrialWork, values: Mapping[str, Any], root: Path, *, sharers: int | Sharers = 1) -> None:
        self.values, self._why = dict(values), "it ended without a word"
        self.connection, theirs = Pipe()

        def run() -> None:
            try:
                _work(theirs, work, self.values, root, sharers)
            except Exception as error:  # a bug, or no memory: of a process, its end would tell
                self._why = f"{type(error).__name__}: {error}"
                raise

        self._thread = threading.Thread(target=run, name="trial", daemon=True)
        self._thread.start()

    def message(self) -> tuple[Any, ...]:
        """The next message; ("failed", why) where the thread ended without one."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self._thread.join()
            return ("failed", self._why)

    def leave(self) -> None:
        """As of a process."""
        with contextlib.suppress(OSError):
            self.connection.send(PAUSE)
        self._thread.join()
        self.connection.close()

    def join(self) -> None:
        """As of a process."""
        self.connection.close()
        self._thread.join()
