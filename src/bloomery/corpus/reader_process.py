"""ReaderProcess: a reader worker as its parent sees it: tasks in, frames out. No pickle: both are JSON."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LENGTH = struct.Struct(">I")
"""Before every frame: its bytes."""


class ReaderProcess:
    """A process that was started and waits for tasks. It ends when its stdin does, so that none outlives its parent."""

    def __init__(self) -> None:
        home = str(Path(__file__).resolve().parents[2])  # the package is found where ours was
        path = os.pathsep.join(part for part in (home, os.environ.get("PYTHONPATH", "")) if part)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 it is open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bloomery.corpus.reader_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None and self._process.stdin is not None
        self._out, self._in = self._process.stdout, self._process.stdin
        self._buffer = bytearray()
        self.ended = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """For select: readable when there are frames, or the process has ended."""
        return self._out.fileno()

    def give(self, task: dict[str, Any]) -> None:
        """Send a task. A process that has died is met when its frames are read."""
        try:
            self._in.write(json.dumps(task).encode() + b"\n")
            self._in.flush()
        except OSError:
            return

    def frames(self, size: int) -> Iterator[bytes]:
        """The whole frames that have come, each JSON; sets `ended` at the end of the process's output."""
        data = os.read(self.fileno(), size)
        self.ended = not data
        self._buffer += data
        while len(self._buffer) >= LENGTH.size:
            length = LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < LENGTH.size + length:
                return
            frame = bytes(self._buffer[LENGTH.size : LENGTH.size + length])
            del self._buffer[: LENGTH.size + length]
            yield frame

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far; 0 if it has ended."""
        import psutil

        try:
            used = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return used.user + used.system

    def code(self) -> int:
        """The exit code of a process whose output has ended; negative for a signal."""
        return self._process.wait()

    def last_words(self) -> str:
        """The last line that it wrote to stderr, or ""."""
        self._errors.seek(0)
        lines = self._errors.read()[-4096:].decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {last}" if last else ""

    def end(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()
        for stream in (self._in, self._out, self._errors):
            try:
                stream.close()
            except OSError:
                continue
