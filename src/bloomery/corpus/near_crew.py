"""NearCrew: does the tasks of near_worker in several processes, or in this one. This module does not know the tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Protocol

from bloomery.core.errors import DataError
from bloomery.corpus.near_worker import work

Told = Callable[[int], None]
"""Hears how many tasks are done whenever one more is."""


class Crew(Protocol):
    """Who does the tasks: processes of this machine, or an engine that shares its file system."""

    def run(self, tasks: Sequence[dict[str, Any]], told: Told | None = None) -> list[int]: ...


class NearCrew:
    """`run(tasks)` does all of them and returns what each counted, in their order; at most `workers` at a time."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def run(self, tasks: Sequence[dict[str, Any]], told: Told | None = None) -> list[int]:
        """OSError for what the disk refused, DataError for a process that died."""
        count = min(self._workers, len(tasks))
        if count <= 1:
            counts = []
            for task in tasks:
                counts.append(work(task))
                if told:
                    told(len(counts))
            return counts
        idle: SimpleQueue[_Worker] = SimpleQueue()
        workers = [_Worker() for _ in range(count)]
        try:
            for worker in workers:
                idle.put(worker)

            def do(task: dict[str, Any]) -> int:
                worker = idle.get()
                try:
                    return worker.do(task)
                finally:
                    idle.put(worker)

            with ThreadPoolExecutor(count) as threads:
                futures = [threads.submit(do, task) for task in tasks]
                try:
                    for done, future in enumerate(as_completed(futures), 1):
                        future.result()  # what went wrong is raised as soon as it is known
                        if told:
                            told(done)
                    return [future.result() for future in futures]
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    for worker in workers:
                        worker.end()
                    raise
        finally:
            for worker in workers:
                worker.end()


class _Worker:
    """A process that waits for tasks. It ends when its stdin does, so that none outlives its parent."""

    def __init__(self) -> None:
        home = str(Path(__file__).resolve().parents[2])  # the package is found where ours was
        path = os.pathsep.join(part for part in (home, os.environ.get("PYTHONPATH", "")) if part)
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 it is open as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bloomery.corpus.near_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )

    def do(self, task: dict[str, Any]) -> int:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):
            line = b""
        if not line:
            raise DataError(
                f"a process that looked for near duplicates died (exit code {process.wait()}{self._last_words()})",
                hint="out of memory? fewer workers take less: --workers 1",
            )
        answer = json.loads(line)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["error"])
        if "error" in answer:
            raise DataError(answer["error"])
        return answer["count"]

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read()[-4096:].decode("utf-8", "replace").split("\n")]
        last = next((line for line in reversed(lines) if line), "")
        return f": {last}" if last else ""

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue
