"""AuditLog: who asked which route of which model, when, with what status, tokens and joules; one JSON object a line.

No content, no key, no path that a client made up. Whoever is refused without being anybody (no key or a wrong one,
another site's page) gets no line of their own: of each address, status and minute one line says how many there were,
and addresses beyond a thousand a minute are counted as "others". Lines are only appended; a file that has grown to its
size becomes `NAME.1` (and that one `NAME.2`, ...), and the oldest is deleted. A line that a full disk has cut stays
alone: the next one begins on a line of its own. This module does not know HTTP.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bloomery.server.visit import Visit

log = logging.getLogger("bloomery.server")
_MAX_ADDRESSES = 1_000
_OTHERS = "others"
_TURNED_BACK_SECONDS = 300.0
"""Nobody is refused so long after coming: the clock was turned back."""


class AuditLog:
    """Thread-safe. Writing never raises: a line that cannot be written is said in the server's own log."""

    def __init__(self, path: Path, *, max_bytes: int, max_files: int) -> None:
        """`max_files` counts the one that is written to."""
        self.path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._lock = threading.Lock()
        self._refused: Counter[tuple[str, int]] = Counter()
        self._minute = 0

    def write(self, visit: Visit, *, method: str, address: str) -> None:
        """One line for a visit that is over."""
        self._write(
            {
                "time": _timestamp(visit.began),
                "key": visit.tenant.name,
                "address": address,
                "method": method,
                "route": visit.route,
                "model": visit.model,
                "status": visit.status,
                "prompt_tokens": visit.prompt_tokens,
                "completion_tokens": visit.completion_tokens,
                "energy_joules": None if visit.energy is None else visit.energy.to_dict(),
                "seconds": round(visit.seconds, 6),
            },
            time=visit.began,
        )

    def refuse(self, visit: Visit, *, address: str) -> None:
        """Count a visit of nobody; its line comes when its minute is over."""
        self._tell_refused(visit.began, turned_back=_TURNED_BACK_SECONDS)
        with self._lock:
            one = (address, visit.status)
            if one not in self._refused and len(self._refused) >= _MAX_ADDRESSES:
                one = (_OTHERS, visit.status)
            self._refused[one] += 1

    def close(self) -> None:
        """Write what was counted and not told."""
        self._tell_refused(float("inf"))

    def _tell_refused(self, time: float, *, turned_back: float = float("inf")) -> None:
        """Write the lines of the minute that is over, if one is: `time` is in a later one, or so long before it."""
        with self._lock:
            began = self._minute * 60.0
            over: list[tuple[tuple[str, int], int]] = []
            if time >= began + 60 or time < began - turned_back:
                over = list(self._refused.items())
                self._refused.clear()
                self._minute = 0 if time == float("inf") else int(time // 60)
        for (address, status), count in over:
            told = {"key": "", "address": address, "status": status, "count": count}
            self._append_line({"time": _timestamp(began), **told})

    def _write(self, line: dict[str, Any], *, time: float) -> None:
        self._tell_refused(time)
        self._append_line(line)

    def _append_line(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        with self._lock:
            try:
                self._rotate(len(data))
                self._append(data)
            except OSError as error:
                log.error("the audit log misses a line: %s", error.strerror or error)

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data
            written = os.write(descriptor, data)  # one call: lines of two processes do not mix
            if written < len(data):
                raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written, the disk may be full")
        finally:
            os.close(descriptor)

    def _rotate(self, more: int) -> None:
        if not self._is_over(more):
            return
        with _alone_in(self.path.parent):
            if not self._is_over(more):  # another server of this workspace was quicker
                return
            for number in range(self._max_files - 1, 0, -1):
                older = self._numbered(number - 1)
                if older.exists():
                    older.replace(self._numbered(number))
            if self._max_files == 1:
                self.path.unlink()

    def _is_over(self, more: int) -> bool:
        """Whether the file has something, and no room for so many bytes more."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return False
        return size > 0 and size + more > self._max_bytes

    def _numbered(self, number: int) -> Path:
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No two processes inside for the same folder, where its file system can tell."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
