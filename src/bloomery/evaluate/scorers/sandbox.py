"""Sandbox: a Python program of a stranger, run where it can do no harm: no network, no files, limits on time and
memory.

Two walls, tried in this order where both are asked for. Monty is an interpreter of its own in a process of its own, for
a part of Python without system calls; what passes there has passed. Everything else runs under CPython behind Landlock
and seccomp (sandlock, Linux 6.12 or newer): one process, no sockets, no file but Python's own library to read and none
to write, memory, processor time and output bounded. Where a wall is missing nothing is run: there is no unprotected
way.

What is not hidden: that a file is there, and its size (Landlock guards contents); the time; that it is in a sandbox.
A program counts as passed if it reaches its own end, where it has to print a word that it was not told before. It
shares a process with its tests: one that searches its own memory for the word can cheat, as it can everywhere. This
module does not know what is being tested.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from bloomery.core.errors import ConfigError, DeviceError, MissingExtraError

Wall = Literal["auto", "monty", "process"]
MAX_CODE = 1 << 18
"""Characters of a program; a longer one is not run."""
_OUTPUT_BYTES = 1 << 16
_GRACE_SECONDS = 5.0
_LIMITS = """\
import resource as _r, sys as _s, json as _j
_r.setrlimit(_r.RLIMIT_CPU, ({cpu}, {cpu}))
_r.setrlimit(_r.RLIMIT_FSIZE, (0, 0))
_r.setrlimit(_r.RLIMIT_CORE, (0, 0))
_code, _word = _j.loads({program!r}), {word!r}
del _r, _j
_s.setrecursionlimit(3000)
exec(compile(_code, "<answer>", "exec"), {{"__name__": "__main__"}})
_s.__stdout__.write("\\n" + _word)
_s.__stdout__.flush()
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`wall`: which one it ran behind; "" for what was not run. `why` is one line, "" for what passed."""

    passed: bool
    why: str
    wall: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """How programs are run. DeviceError, or MissingExtraError, where the wall that is asked for is not there.

    "auto" needs both walls; "monty" alone fails what is outside its part of Python; "process" is CPython alone.
    """

    wall: Wall = "auto"
    seconds: float = 5.0
    """Wall-clock and processor time, each."""
    memory_mebibytes: int = 256
    _monty: _Monty = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0.1 <= self.seconds <= 600 or not 32 <= self.memory_mebibytes <= 1 << 16:
            raise ConfigError("a sandbox gives from .1 to 600 seconds and from 32 to 65,536 MiB")
        if self.wall != "process":
            _import_monty()
        if self.wall != "monty":
            _check_process_wall()
        object.__setattr__(self, "_monty", _Monty(self.seconds, self.memory_mebibytes << 20))

    def run(self, program: str) -> Outcome:
        """Safe to call from several threads. What the program does is never an exception here."""
        if len(program) > MAX_CODE:
            return Outcome(passed=False, why=f"longer than {MAX_CODE:,} characters", wall="", seconds=0.0)
        if "\0" in program or not _encodable(program):
            return Outcome(passed=False, why="is not text that Python reads", wall="", seconds=0.0)
        first = self._monty.run(program) if self.wall != "process" else None
        if first is not None and (first.passed or self.wall == "monty"):
            return first
        return _run_process(program, self.seconds, self.memory_mebibytes)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Monty:
    """A pool of Monty's workers, started with the first program."""

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        self._limits: Any = {"max_feed_duration_secs": seconds, "max_total_sleep_secs": seconds}
        self._limits["max_memory"] = memory_bytes
        self._seconds = seconds
        self._pool: Any = None
        self._lock = threading.Lock()

    def run(self, program: str) -> Outcome:
        monty = _import_monty()
        word, began = secrets.token_hex(16), time.perf_counter()
        why = ""
        try:
            printed = monty.CollectString()
            with self._started(monty).checkout(limits=self._limits) as session:
                found = session.feed_run(f"{program}\n\n{word!r}\n", print_callback=printed)
            why = "" if found == word else "ended before its end"
        except (monty.MontyError, TimeoutError) as error:
            why = _line(str(error))
        return Outcome(passed=not why, why=why, wall="monty", seconds=time.perf_counter() - began)

    def _started(self, monty: Any) -> Any:
        with self._lock:
            if self._pool is None:
                pool = monty.Monty(request_timeout=self._seconds + _GRACE_SECONDS)
                self._pool = pool.__enter__()
                atexit.register(pool.__exit__, None, None, None)
            return self._pool


def _import_monty() -> Any:
    try:
        import pydantic_monty
    except ImportError:
        raise MissingExtraError("pydantic-monty", "evaluate", "running code that a model wrote") from None
    return pydantic_monty


def _check_process_wall() -> None:
    if sys.platform != "linux":
        raise DeviceError("CPython is fenced in on Linux only", hint='wall = "monty" runs a part of Python everywhere')
    try:
        import sandlock
    except ImportError:
        raise MissingExtraError("sandlock", "evaluate", "running code that a model wrote") from None
    found, least = sandlock.landlock_abi_version(), sandlock.min_landlock_abi()
    if found < least:
        raise DeviceError(
            f"this kernel's Landlock (ABI {found}) is older than {least}: code would not be fenced in",
            hint='wall = "monty" runs a part of Python everywhere',
        )


def _policy(memory_mebibytes: int) -> Any:
    import sandlock

    library = os.path.realpath(sys.base_prefix)
    readable = {library, os.path.realpath(sys.base_exec_prefix), "/usr/lib", "/usr/lib64", "/lib", "/lib64"}
    return sandlock.Sandbox(
        fs_readable=sorted(path for path in readable if Path(path).is_dir()),
        max_memory=f"{memory_mebibytes}M",
        max_processes=1,
        max_open_files=64,
        clean_env=True,
        no_coredump=True,
        cwd=library,
    )


def _run_process(program: str, seconds: float, memory_mebibytes: int) -> Outcome:
    """CPython under sandlock; the program comes through standard input, what it prints is read and soon cut off."""
    from sandlock.sandbox import StdioMode

    word, began = secrets.token_hex(16), time.perf_counter()
    script = _LIMITS.format(cpu=max(1, round(seconds + 0.5)), program=json.dumps(program), word=word)
    command = [os.path.realpath(sys.executable), "-I", "-S", "-B", "-"]
    try:
        running = _policy(memory_mebibytes).popen(command, StdioMode.PIPED, StdioMode.PIPED, StdioMode.PIPED)
    except (RuntimeError, OSError) as error:
        raise DeviceError(f"the sandbox did not start, so nothing was run: {error}") from error
    with running:
        out, err = _Tail(running.stdout, running), _Tail(running.stderr, running)
        feeding = threading.Thread(target=_feed, args=(running.stdin, script.encode()), daemon=True)
        feeding.start()
        feeding.join(seconds)
        result = running.wait(timeout=max(0.1, seconds - (time.perf_counter() - began)))
        out.join()
        err.join()
    took = time.perf_counter() - began
    passed = out.text.endswith("\n" + word) and not out.cut
    return Outcome(
        passed=passed, why="" if passed else _why(result, out, err, took, seconds), wall="process", seconds=took
    )


def _why(result: Any, out: _Tail, err: _Tail, took: float, seconds: float) -> str:
    if out.cut or err.cut:
        return "printed too much"
    last = [line for line in err.text.splitlines() if line.strip()]
    if last and result.exit_code == 1:
        return _line(last[-1])
    if result.reason is not None and result.reason.name == "TIMEOUT":
        return f"took longer than {seconds:g} s"
    if result.exit_code == 0:
        return "ended before its end"
    return "was stopped (memory or processor time)"


class _Tail:
    """The end of what a stream brings; more than `_OUTPUT_BYTES` in all stops the program."""

    def __init__(self, stream: IO[bytes], running: Any) -> None:
        self._stream, self._running = stream, running
        self._bytes, self.cut = bytearray(), False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError, ValueError):
            while piece := os.read(self._stream.fileno(), 1 << 14):
                self._bytes += piece
                if len(self._bytes) > _OUTPUT_BYTES:
                    self.cut = True
                    self._running.kill()
                    return

    def join(self) -> None:
        self._thread.join(_GRACE_SECONDS)

    @property
    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace")


def _feed(stream: IO[bytes], script: bytes) -> None:
    with suppress(OSError, ValueError):
        stream.write(script)
        stream.close()


def _line(text: str) -> str:
    return " ".join(text.split())[:300] or "failed"
