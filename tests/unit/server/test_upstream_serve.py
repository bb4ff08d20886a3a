"""serve_vllm as a process, over a stand-in for vLLM: it comes up, answers, and takes what it started with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from bloomery.core.errors import ConfigError, DeviceError
from bloomery.server import ServeConfig
from bloomery.server.upstream_serve import serve_vllm

FAKE = Path(__file__).parents[2] / "fake_vllm.py"


def ask(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def test_up_asked_and_down_with_all_of_it(tmp_path: Path):
    vllm = tmp_path / "bin" / "vllm"
    vllm.parent.mkdir()
    vllm.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    vllm.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    at = ["--port", str(port), "--home", str(tmp_path / "home")]
    process = subprocess.Popen(
        [sys.executable, "-m", "bloomery.cli.main", "serve", "org/model", "--engine", "vllm", *at],
        env={**os.environ, "PATH": f"{vllm.parent}:{os.environ['PATH']}", "BLOOMERY_API_KEY": ""},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert "serving org/model" in process.stderr.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        url = f"http://127.0.0.1:{port}"
        answer = ask(f"{url}/v1/completions", {"model": "org/model", "prompt": "iron ore"})
        assert answer["choices"][0]["text"] == "iron ore"
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    end = time.monotonic() + 20
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_mistakes(tmp_path: Path):
    with pytest.raises(ConfigError, match="loopback"):
        serve_vllm(None, workspace=tmp_path, config=ServeConfig(api_key="", port=0, upstream="http://10.0.0.1:1"))
    with pytest.raises(DeviceError, match="nothing answers"):
        serve_vllm(None, workspace=tmp_path, config=ServeConfig(api_key="", port=0, upstream="http://127.0.0.1:9"))
