"""VllmProcess, with a stand-in for vLLM: started, watched, started again within bounds, ended; or found on loopback."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError, DeviceError, MissingExtraError
from bloomery.server import vllm_process
from bloomery.server.vllm_process import VllmProcess, check_upstream, vllm_command

FAKE = [sys.executable, str(Path(__file__).parents[2] / "fake_vllm.py")]


def until(what, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def kill(process: VllmProcess) -> None:
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGKILL)


def test_started_watched_and_started_again_within_bounds():
    process = VllmProcess(FAKE, "model", "m", restarts=1, watch_seconds=0.05)
    process.start()
    try:
        assert process.alive and process.pids() and process.url.startswith("http://127.0.0.1:")
        first = process.pids()
        kill(process)
        until(lambda: process.restarted == 1 and process.alive)
        assert not first & process.pids()
        kill(process)
        until(lambda: not process.alive)
        time.sleep(0.3)
        assert process.restarted == 1 and not process.alive  # once an hour was the bound
    finally:
        process.stop()
    assert process._process is not None and process._process.poll() is not None


def test_what_does_not_come_up_says_why():
    process = VllmProcess(FAKE, "broken", "m")
    with pytest.raises(DeviceError, match="no such model"):
        process.start()
    process.stop()


def test_one_that_runs_already_is_found_and_left_alone():
    first = VllmProcess(FAKE, "model", "m")
    first.start()
    try:
        found = VllmProcess([], "", "", upstream=first.url + "/v1/")
        found.start()
        assert found.alive and found.url == first.url and found.key == ""
        assert first.pids() <= found.pids() or not found.pids()  # whose port it is may not be ours to know
        found.stop()
        assert first.pids()
    finally:
        first.stop()
    with pytest.raises(DeviceError, match="nothing answers"):
        VllmProcess([], "", "", upstream=first.url).start()


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1:80", "https://localhost:1", "localhost:8000", "http://evil.example:1", "http://127.0.0.1",
            "", "http://127.0.0.1:1/x", "http://127.0.0.1:x", "http://127.0.0.1.evil.example:1"],
)  # fmt: skip
def test_only_loopback(url: str):
    with pytest.raises(ConfigError):
        check_upstream(url)


def test_without_vllm_the_pip_line_is_the_hint(monkeypatch):
    monkeypatch.setattr(vllm_process.shutil, "which", lambda name: None)
    monkeypatch.setattr(vllm_process.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        vllm_command()
    assert caught.value.hint == 'pip install "bloomery[vllm]"'
    monkeypatch.setattr(vllm_process.shutil, "which", lambda name: "/opt/vllm")
    assert vllm_command() == ["/opt/vllm"]
