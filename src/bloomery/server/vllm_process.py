"""VllmProcess: a vLLM server on loopback that is started, watched and started again, or one that runs already.

What is started listens on a free port of 127.0.0.1 and takes a key that only this process knows. It has not been run
against vLLM itself here, where it cannot be installed: the tests have a stand-in that answers as vLLM documents. This
module does not know requests (see `upstream`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import psutil

from bloomery.core.errors import ConfigError, DeviceError, MissingExtraError
from bloomery.core.run import Meter
from bloomery.energy.nvml import NvmlMeter, find_gpus

log = logging.getLogger("bloomery.server")
_HOUR = 3600.0
_LOOK_SECONDS = 0.1
_WATCH_SECONDS = 5.0
_MISSES = 3
"""So many checks in a row without an answer: it is taken for dead."""
_STOP_SECONDS = 15.0
# Stands between us and vLLM, leads its session, and ends it when our end of the pipe closes, however we ended.
_KEEPER = """
import os, signal, subprocess, sys, threading, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)
    time.sleep(15)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 128 - code)
"""
_LOG_BYTES = 16 * 1024 * 1024
_TOLD_BYTES = 4_000


def vllm_command() -> list[str]:
    """The installed `vllm`. MissingExtraError without it."""
    beside = Path(sys.executable).with_name("vllm")
    found = str(beside) if beside.is_file() else shutil.which("vllm")
    if found is not None:
        return [found]
    if importlib.util.find_spec("vllm") is not None:
        return [sys.executable, "-m", "vllm.entrypoints.cli.main"]
    raise MissingExtraError("vllm", "vllm", "--engine vllm")


def check_upstream(url: str) -> str:
    """The base of a server on loopback. ConfigError for anything else: what is passed on there carries prompts."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local, parts, port = False, urlsplit(""), None
    if parts.scheme != "http" or not local or port is None or parts.path not in ("", "/", "/v1", "/v1/"):
        raise ConfigError(f"{url!r:.200} is no server on loopback", hint="--upstream http://127.0.0.1:8001")
    return f"http://{parts.netloc}"


class VllmProcess:
    """`url` is where it answers, `key` what it wants to be told ("" where we did not start it). `alive` says whether it
    answered when it was last asked."""

    def __init__(
        self,
        command: Sequence[str],
        model: str,
        name: str,
        *,
        args: Sequence[str] = (),
        upstream: str = "",
        restarts: int = 3,
        start_seconds: float = 1800.0,
        watch_seconds: float = _WATCH_SECONDS,
    ) -> None:
        """With an `upstream` nothing is started, and `command` and `model` are not looked at."""
        self.key = "" if upstream else secrets.token_urlsafe(32)
        self.alive = False
        self.restarted = 0
        self._attached = bool(upstream)
        self._start_seconds, self._watch_seconds = start_seconds, watch_seconds
        self._restarts = restarts
        self._starts: deque[float] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = -1 if upstream else _open_log()
        self._came_up = False
        self._ending = threading.Event()
        self._watching: threading.Thread | None = None
        port = 0 if upstream else _free_port()
        self.url = check_upstream(upstream) if upstream else f"http://127.0.0.1:{port}"
        where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", name]
        self._command = [*command, "serve", model, *where, *args]

    def start(self) -> None:
        """Returns when it answers. DeviceError if it ends before, or takes too long."""
        if not self._attached:
            self._spawn()
        end = time.monotonic() + self._start_seconds
        while not self._answers():
            if self._process is not None and self._process.poll() is not None:
                said, code = self._last_line(), self._process.returncode
                self.stop()
                raise DeviceError(f"vLLM ended with {code}: {said}", hint="its arguments: vllm_args")
            if self._attached or time.monotonic() > end:
                self.stop()
                raise DeviceError(f"nothing answers at {self.url}/health", hint="is vLLM running there?")
            time.sleep(_LOOK_SECONDS)
        self.alive = self._came_up = True
        self._watching = threading.Thread(target=self._watch, name="vllm-watch", daemon=True)
        self._watching.start()

    def stop(self) -> None:
        """End what was started, gently and then not."""
        self._ending.set()
        self.alive = False
        if self._watching is not None and self._watching is not threading.current_thread():
            self._watching.join(_STOP_SECONDS)
        self._kill()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def meter(self) -> tuple[Meter | None, str]:
        """The joules of the cards that it computes on, and a reason if that is not known."""
        gpus, problem = find_gpus(self.pids())
        if not gpus:
            gpus, none = find_gpus()
            if not gpus:
                return None, none
            log.warning("%s: the joules of all cards of this machine are counted", problem)
        return NvmlMeter(gpus), ""

    def pids(self) -> set[int]:
        """The process and those that it has started."""
        try:
            if self._process is not None:  # what stands between us and vLLM computes nothing
                return {child.pid for child in psutil.Process(self._process.pid).children(recursive=True)}
            first = self._listener()
            return set() if first is None else {first.pid, *(child.pid for child in first.children(recursive=True))}
        except psutil.Error:
            return set()

    def _listener(self) -> psutil.Process | None:
        """Whose the port is, as far as we may know."""
        port = urlsplit(self.url).port
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.pid and getattr(one.laddr, "port", None) == port:
                return psutil.Process(one.pid)
        return None

    def _spawn(self) -> None:
        environment = {**os.environ, "VLLM_API_KEY": self.key}  # not an argument, which everybody could read
        self._starts.append(time.monotonic())
        self._came_up = False
        try:
            if shutil.which(self._command[0]) is None:
                raise FileNotFoundError(2, "no such program")
            self._process = subprocess.Popen(
                [sys.executable, "-c", _KEEPER, *self._command],
                stdin=subprocess.PIPE,  # it ends with us, however we end
                stdout=self._log,
                stderr=self._log,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(f"cannot start {self._command[0]}: {error.strerror or error}") from error

    def _answers(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"{self.url}/health", timeout=5
            ) as a:
                return a.status == 200
        except (OSError, URLError, ValueError):
            return False

    def _watch(self) -> None:
        misses = 0
        while not self._ending.wait(self._watch_seconds):
            ended = self._process is not None and self._process.poll() is not None
            misses = 0 if not ended and self._answers() else misses + 1
            self._bound_log()
            if misses == 0:
                self.alive = self._came_up = True
            elif ended or misses >= _MISSES:
                if self.alive:
                    log.error("vLLM at %s %s", self.url, "has ended" if ended else "answers no more")
                self.alive = False
                if self._process is not None and (ended or not self._is_loading):
                    self._restart()

    @property
    def _is_loading(self) -> bool:
        """Then it answers nothing, which is no reason to begin again."""
        return not self._came_up and time.monotonic() - self._starts[-1] < self._start_seconds

    def _restart(self) -> None:
        while self._starts and time.monotonic() - self._starts[0] > _HOUR:
            self._starts.popleft()
        if len(self._starts) > self._restarts:
            return  # it would end again; it is said once, and /health says it
        self._kill()
        if self._ending.is_set():
            return
        self.restarted += 1
        log.warning("vLLM is started again, for the %d. time", self.restarted)
        try:
            self._spawn()
        except DeviceError as error:
            log.error("%s", error.one_line())
        if len(self._starts) > self._restarts:
            log.error("vLLM is not started again within the hour should it end once more")

    def _kill(self) -> None:
        if self._process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # the whole session: its workers too
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _last_line(self) -> str:
        if self._log < 0:
            return ""
        size = os.fstat(self._log).st_size
        said = os.pread(self._log, _TOLD_BYTES, max(0, size - _TOLD_BYTES))
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def _bound_log(self) -> None:
        """What it says is kept for its end, and not for ever."""
        if self._log >= 0 and os.fstat(self._log).st_size > _LOG_BYTES:
            os.ftruncate(self._log, 0)


def _open_log() -> int:
    """A file without a name. Appended to: it can be cut while it is written."""
    descriptor, path = tempfile.mkstemp(prefix="vllm-")
    os.close(descriptor)
    try:
        return os.open(path, os.O_RDWR | os.O_APPEND)
    finally:
        Path(path).unlink()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
