"""A server process: ports, keys, signals, clients that leave; what it prints and where."""

from __future__ import annotations

import http.client
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bloomery.core.workspace import Workspace
from bloomery.server.store import RequestStore

make_tiny_model = runpy.run_path(str(Path(__file__).parents[1] / "tiny_model.py"))["make_tiny_model"]
SERVE = """
import sys
from bloomery.core.errors import BloomeryError
from bloomery.server import ServeConfig, serve
try:
    config = ServeConfig(
        host=sys.argv[4], port=int(sys.argv[2]), shutdown_seconds=float(sys.argv[5]), store="content",
        audit_log_bytes=4_000, audit_log_files=99,
    )
    serve(sys.argv[1], config=config, workspace=sys.argv[3])
except BloomeryError as error:
    print(error.one_line(), file=sys.stderr)
    sys.exit(2)
"""
BODY = {"model": "tiny", "prompt": "a", "max_tokens": 3_000, "logit_bias": {"0": -100, "2": -100}}
"""Answers that do not end by themselves: 0 and 2 are the tiny model's ends of text."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", context=4_096)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    folder: Path, port: int, home: Path, *, host: str = "127.0.0.1", key: str = "", patience: float = 2
) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BLOOMERY_API_KEY": key}
    command = [sys.executable, "-c", SERVE, str(folder), str(port), str(home), host, str(patience)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def running(folder: Path, port: int, home: Path, *, patience: float = 2) -> Iterator[subprocess.Popen[str]]:
    process = start(folder, port, home, patience=patience)
    try:
        end = time.monotonic() + 300  # a busy machine takes its time
        while True:
            try:
                assert ask(port, "GET", "/health") == 200
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, process.communicate(timeout=5)
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(port: int, method: str, path: str, body: dict | None = None) -> int:
    """The status of a whole answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        answer.read()
        return answer.status


def send(connection: socket.socket, body: dict) -> None:
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n"
    connection.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + data)


def wait_for_requests(home: Path, count: int) -> list[dict]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with closing(Workspace(home).ledger) as ledger:
            rows = ledger.requests()
        if len(rows) >= count:
            return rows
        time.sleep(0.1)
    pytest.fail(f"the ledger did not come to {count} requests")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_stops_the_work(folder: Path, port: int, tmp_path: Path, stream: bool):
    with running(folder, port, tmp_path):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            send(connection, {**BODY, "stream": stream})
            if stream:
                assert b"200 OK" in connection.recv(4_096)
            else:
                time.sleep(0.3)
        (row,) = wait_for_requests(tmp_path, 1)
        assert row["status"] == 499 and row["completion_tokens"] < 3_000
        assert ask(port, "POST", "/v1/completions", BODY | {"max_tokens": 1}) == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_even_while_it_works(folder: Path, port: int, tmp_path: Path, number: int):
    with running(folder, port, tmp_path) as process:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            send(connection, BODY | {"stream": True})
            assert b"200 OK" in connection.recv(4_096)
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out) == (0, "")
        assert f"http://127.0.0.1:{port}" in err and "Traceback" not in err
    (row,) = wait_for_requests(tmp_path, 1)
    assert row["status"] in (200, 499)


def answer(port: int, method: str, path: str, body: dict | None = None) -> tuple[int, str | None, dict]:
    """Status, retry-after and JSON of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        headers = {"content-type": "application/json"} if body else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        return reply.status, reply.headers["retry-after"], json.loads(reply.read())


def read_all(connection: socket.socket) -> bytes:
    connection.settimeout(60)
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def test_who_is_in_finishes_and_nobody_new_is_let_in(folder: Path, port: int, tmp_path: Path):
    with running(folder, port, tmp_path, patience=60) as process:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            body = BODY | {"stream": True, "max_tokens": 600, "n": 4, "stream_options": {"include_usage": True}}
            send(connection, body)
            assert b"200 OK" in connection.recv(4_096)
            process.send_signal(signal.SIGTERM)
            end = time.monotonic() + 10
            while answer(port, "GET", "/health")[2] == {"status": "ok"}:
                assert time.monotonic() < end
            assert answer(port, "GET", "/health")[::2] == (503, {"status": "draining"})
            status, retry_after, refused = answer(port, "POST", "/v1/completions", BODY)
            assert (status, retry_after) == (503, "1") and refused["error"]["code"] == "shutting_down"
            rest = read_all(connection)
        assert b"data: [DONE]" in rest and b"error" not in rest
        assert process.wait(timeout=30) == 0
    (row,) = wait_for_requests(tmp_path, 1)
    assert row["status"] == 200
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert sorted(line["status"] for line in lines) == [200, 503]


def test_patience_ends_and_a_second_signal_ends_it_at_once(folder: Path, port: int, tmp_path: Path):
    for patience, signals in ((1, 1), (600, 2)):
        with running(folder, port, tmp_path, patience=patience) as process:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                send(connection, BODY | {"stream": True, "n": 100})
                assert b"200 OK" in connection.recv(4_096)
                for _ in range(signals):
                    process.send_signal(signal.SIGTERM)
                    time.sleep(0.3)
                rest = read_all(connection)
            assert process.wait(timeout=30) == 0
            assert b"[DONE]" not in rest
            if signals == 1:
                assert b'"code":"shutting_down"' in rest.replace(b": ", b":")


def test_at_the_end_of_patience_every_one_of_many_streams_is_told(folder: Path, port: int, tmp_path: Path):
    """Those that run and those that wait for a turn: each ends with `[DONE]` or with a 503 as an event."""
    count = 48
    with running(folder, port, tmp_path, patience=1) as process:
        connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        for connection in connections:
            send(connection, BODY | {"stream": True, "max_tokens": 3_000})
        assert connections[0].recv(12) == b"HTTP/1.1 200"
        process.send_signal(signal.SIGTERM)
        with ThreadPoolExecutor(count) as threads:
            answers = list(threads.map(read_all, connections))
        for connection in connections:
            connection.close()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "") and "Traceback" not in err
    cut = [rest for rest in answers if b"[DONE]" not in rest]
    assert len(cut) >= count // 2
    for rest in answers:
        if rest.startswith(b"HTTP/1.1 503"):  # it was not in yet
            assert b"retry-after: 1" in rest and json.loads(rest.partition(b"\r\n\r\n")[2])["error"]
            continue
        events = [line for line in rest.split(b"\r\n") if line.startswith(b"data: ")]
        assert rest.endswith(b"0\r\n\r\n"), rest[-300:]  # the body is whole
        last = events[-1].removeprefix(b"data: ").strip() if events else b""
        assert last == b"[DONE]" or json.loads(last)["error"]["code"] == "shutting_down", rest[-300:]


def test_a_busy_port_is_one_line(folder: Path, port: int, tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        process = start(folder, port, tmp_path)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1 and f"port {port}" in err and "in use" in err and "--port" in err


def test_a_public_address_needs_a_key(folder: Path, port: int, tmp_path: Path):
    process = start(folder, port, tmp_path, host="0.0.0.0")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1 and "BLOOMERY_API_KEY" in err


def test_slow_and_broken_senders_do_no_harm(folder: Path, port: int, tmp_path: Path):
    with running(folder, port, tmp_path):
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{")
        for junk in (b"\x00\xff\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET /" + b"x" * 200_000, b""):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                try:
                    connection.sendall(junk)
                except OSError:
                    continue
        assert ask(port, "GET", "/v1/models") == 200
        slow.close()
        assert ask(port, "GET", "/health") == 200


def test_two_servers_of_one_workspace_lose_nothing(folder: Path, port: int, tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    with running(folder, port, tmp_path), running(folder, other, tmp_path), ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, (port, other)[n % 2], "POST", "/v1/completions", BODY | {"max_tokens": 2})
                 for n in range(60)]  # fmt: skip
        assert {one.result() for one in asked} == {200}
    lines = [json.loads(line) for path in tmp_path.glob("audit.jsonl*") for line in path.read_text().splitlines()]
    kept = RequestStore(tmp_path / "requests.sqlite")
    with closing(kept), closing(Workspace(tmp_path).ledger) as ledger:
        rows = ledger.requests(limit=99), kept.find(limit=99), [line for line in lines if line["route"] != "/health"]
        assert [len(each) for each in rows] == [60, 60, 60]
        assert {row["id"] for row in rows[1]} == {row["id"] for row in rows[0]}
