"""AuditLog: who asked which route of which model, when, with what status, tokens and joules; one JSON object a line.

No content, no key, no path that a client made up. Lines are only appended; a file that has grown to its size becomes
`NAME.1` (and that one `NAME.2`, ...), and the oldest is deleted. This module does not know HTTP.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from bloomery.server.visit import Visit

log = logging.getLogger("bloomery.server")


class AuditLog:
    """Thread-safe. Writing never raises: a line that cannot be written is said in the server's own log."""

    def __init__(self, path: Path, *, max_bytes: int, max_files: int) -> None:
        """`max_files` counts the one that is written to."""
        self.path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._lock = threading.Lock()

    def write(self, visit: Visit, *, method: str, address: str) -> None:
        """One line for a visit that is over."""
        line = json.dumps(
            {
                "time": datetime.fromtimestamp(visit.began, UTC).isoformat(timespec="milliseconds"),
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
            }
        )
        data = line.encode() + b"\n"
        with self._lock:
            try:
                self._rotate(len(data))
                self._append(data)
            except OSError as error:
                log.error("the audit log misses a line: %s", error.strerror or error)

    def _append(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, data)  # one call: lines of two processes do not mix
        finally:
            os.close(descriptor)

    def _rotate(self, more: int) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size + more <= self._max_bytes or size == 0:
            return
        for number in range(self._max_files - 1, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self._max_files == 1:
            self.path.unlink()

    def _numbered(self, number: int) -> Path:
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")
