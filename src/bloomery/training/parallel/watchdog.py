"""A watchdog beside each rank: no rank waits for ever for one that died or stands still.

Every half second each rank's thread writes into the store how many steps it has begun and whether it has computed its
part of the present one. A follower that can no longer write, or whose leader no longer does, ends. The leader finds a
rank that has ended, that no longer writes (frozen), or that has not computed its part for `stall_factor` times the
median step while the others wait: it puts down a verdict and ends the followers, so that the wait for them fails and
the leader can say so; if that does not free it (NCCL waits on the GPU), it says it itself and ends the process.

This module does not know what a step is made of.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import Any

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

from bloomery.core.errors import BloomeryError, TrainingError
from bloomery.training.parallel.launch import Followers

_BEAT_SECONDS = 0.5
_GRACE_SECONDS = 5.0
_REMEMBERED_STEPS = 101
_COMPILING_SECONDS = 900.0
REMEDY = "run the same command again: it goes on from the last checkpoint"


def _print(error: BloomeryError) -> None:
    print(f"error: {error.one_line()}", file=sys.stderr, flush=True)


class Watchdog:
    """The thread of one rank. `store` must be a connection of its own."""

    last_words = staticmethod(_print)
    """Says what ended the process, where nothing else in it can any more."""

    def __init__(self, store: Store, rank: int, size: int, followers: Followers | None = None) -> None:
        self.verdict = ""
        """What ended the run, once something has."""
        self._store, self._rank, self._size, self._followers = store, rank, size, followers
        self._step, self._computed, self._since, self._active = 0, False, time.monotonic(), False
        self._times: deque[float] = deque(maxlen=_REMEMBERED_STEPS)
        self._limits = (60.0, 50.0)
        self._beats: dict[int, tuple[dict[str, Any], float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"watchdog-{rank}", daemon=True)
        self._thread.start()

    def begin(self, *, stall_seconds: float, stall_factor: float) -> None:
        """A stage begins; no step of it has been taken."""
        self._limits = (stall_seconds, stall_factor)
        self._times.clear()
        self._active = False

    def allow_compiling(self) -> None:
        """A step of a new shape may compile for minutes."""
        self._limits = (max(self._limits[0], _COMPILING_SECONDS), self._limits[1])

    def step(self, number: int) -> None:
        """Step `number` begins."""
        self._step, self._computed, self._since, self._active = number, False, time.monotonic(), True

    def computed(self) -> None:
        """This rank has computed its part of the step, and now waits for the others."""
        self._computed = True

    def rest(self) -> None:
        """The step is taken; what follows may be a validation or a checkpoint: only signs of life are looked for."""
        if self._active:
            self._times.append(time.monotonic() - self._since)
        self._active = False

    def wait_for_end(self, seconds: float) -> tuple[int, str] | None:
        """(rank, how it ended) of a follower that ends within some seconds."""
        until = time.monotonic() + seconds
        while self._followers is not None:
            if (found := self._followers.ended()) or time.monotonic() > until:
                return found
            time.sleep(0.02)
        return None

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def stalled(self, now: float) -> str:
        """What is wrong, in words; "" if nothing is. For the leader."""
        if self._followers is not None and (ended := self._followers.ended()):
            return f"rank {ended[0]} has ended: {ended[1]}"
        usual, limit = self._usual(), self._limit()
        for rank, (beat, at) in self._beats.items():
            if now - at > limit:
                return f"rank {rank} has shown no sign of life for {now - at:.0f} s; its last step was {beat['step']}"
        if not self._active or now - self._since <= limit or not self._times:
            return ""
        waited = f"for {now - self._since:.0f} s, where a step takes {usual:.2g} s"
        for rank, (beat, _) in self._beats.items():
            if beat["step"] < self._step or not beat["computed"]:
                return f"rank {rank} has not computed step {self._step} {waited}; its last step was {beat['step'] - 1}"
        own = "the ranks cannot exchange" if self._computed else "rank 0 has not computed"
        return f"{own} step {self._step} {waited}"

    def _usual(self) -> float:
        """Seconds of a step."""
        return median(self._times) if self._times else 0.0

    def _limit(self) -> float:
        seconds, factor = self._limits
        return max(seconds, factor * self._usual())

    def _watch(self) -> None:
        while not self._stop.wait(_BEAT_SECONDS):
            try:
                self._store.set(f"beat/{self._rank}", json.dumps(self._beat()))
                self._listen([0] if self._rank else range(1, self._size))
            except RuntimeError:  # the store is gone, and with it the leader
                if self._rank and not self._stop.wait(_BEAT_SECONDS):
                    os._exit(1)
                return
            now = time.monotonic()
            if verdict := (self._leader_is_silent(now) if self._rank else self.stalled(now)):
                self._end(verdict)
                return

    def _beat(self) -> dict[str, Any]:
        return {"beats": time.monotonic(), "step": self._step, "computed": self._computed}

    def _leader_is_silent(self, now: float) -> str:
        """For a follower: what is wrong if rank 0, which would have found others, shows no sign of life itself."""
        beat, at = self._beats.get(0, ({}, now))
        if now - at <= 2 * self._limit():
            return ""
        return f"rank 0 has shown no sign of life for {now - at:.0f} s; its last step was {beat['step']}"

    def _listen(self, ranks: Iterable[int]) -> None:
        for rank in ranks:
            key = f"beat/{rank}"
            if not self._store.check([key]):
                continue
            beat = json.loads(self._store.get(key))
            if rank not in self._beats or self._beats[rank][0]["beats"] != beat["beats"]:
                self._beats[rank] = (beat, time.monotonic())
            else:
                self._beats[rank] = (beat, self._beats[rank][1])

    def _end(self, verdict: str) -> None:
        self.verdict = verdict
        if self._followers is not None:
            self._followers.kill()
        if self._stop.wait(_GRACE_SECONDS):
            return
        self.last_words(TrainingError(verdict, hint=REMEDY))
        os._exit(2)
