"""Events: what a run says while it works, one JSON object a line in `events.jsonl`.

An event is {time, kind, ...}. Listeners (a progress view, a test) hear the same events; progress events go to
listeners only. This module does not know who listens nor what an event means.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.artifact import FULL

INTERRUPTED = "interrupted"
"""The error of a run that somebody stopped."""


@dataclass(frozen=True)
class Event:
    """`kind` is a short word (start, phase, step, progress, note, heartbeat, end); `data` is plain JSON data."""

    kind: str
    run: str
    stage: str
    data: dict[str, Any] = field(default_factory=dict)
    time: float = 0.0


Listener = Callable[[Event], None]


class EventLog:
    """Appends events to a file, a line at a time, from any thread."""

    def __init__(self, path: Path) -> None:
        # Lone surrogates (a file name that is not UTF-8) become the escapes that JSON has for them.
        self._stream = path.open("a", encoding="utf-8", errors="backslashreplace")
        self._lock = threading.Lock()

    def append(self, event: Event) -> bool:
        """Write it; False where the disk is full: it may be written when there is room again, or be lost."""
        line = json.dumps({"time": event.time, "kind": event.kind, **event.data}, ensure_ascii=False)
        with self._lock:
            try:
                if not self._stream.closed:
                    self._stream.write(line + "\n")
                    self._stream.flush()
            except OSError as error:
                if error.errno not in FULL:
                    raise
                return False
        return True

    def close(self) -> None:
        """Close the file; what a full disk kept out of it is lost."""
        with self._lock:
            try:
                self._stream.close()
            except OSError as error:
                if error.errno not in FULL:
                    raise


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log; a torn last line (the writer was killed) is left out."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def now() -> float:
    """Seconds since the epoch."""
    return time.time()
