"""`bloomery serve` as a process, and what keeps it from starting."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request


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


def test_serves_and_stops(tiny):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "bloomery.cli.main", "serve", "--port", str(port), "--home", str(tiny.home)]
    command += ["--weights", "int8"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5) as reply:
                    models = json.load(reply)
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        else:
            raise AssertionError("the server did not come up")
        assert models["data"][0]["id"].startswith("model-")
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode in (0, 130), errors
    assert "Traceback" not in errors
