"""AuditLog: one line a request, without content or secrets; files of a bounded size, the oldest deleted."""

from __future__ import annotations

import json
import resource
import stat
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel
from bloomery.server import ServeConfig, build_app
from bloomery.server.audit import AuditLog
from bloomery.server.keys import add_key
from bloomery.server.tenant import Tenant
from bloomery.server.visit import Visit

CONTENT = "an unmistakable prompt"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_who_what_when_and_what_it_took(tmp_path: Path):
    visit = Visit(tenant=Tenant(name="alice"), route="/v1/completions", model="tiny", status=200)
    visit.spend(prompt=3, completion=2)
    visit.spend_energy(Quantity.exact(1.5, "counter"))
    path = tmp_path / "deep" / "audit.jsonl"
    AuditLog(path, max_bytes=10_000, max_files=2).write(visit, method="POST", address="127.0.0.1")
    (line,) = lines(path)
    assert (line["key"], line["route"], line["model"], line["status"]) == ("alice", "/v1/completions", "tiny", 200)
    assert (line["prompt_tokens"], line["completion_tokens"], line["energy_joules"]["central"]) == (3, 2, 1.5)
    when = datetime.fromisoformat(line["time"])
    assert abs((datetime.now(UTC) - when).total_seconds()) < 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("files", [1, 2, 4])
def test_files_are_rotated_by_size_and_bounded(tmp_path: Path, files: int):
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=2_000, max_files=files)
    for number in range(60):
        log.write(Visit(status=number), method="GET", address="")
    found = sorted(tmp_path.iterdir())
    assert len(found) == files and all(path.stat().st_size <= 2_000 for path in found)
    kept = [line["status"] for path in sorted(found, key=lambda p: -len(p.name)) for line in lines(path)]
    assert lines(tmp_path / "audit.jsonl")[-1]["status"] == 59
    assert len(kept) == len(set(kept))


def test_two_servers_of_one_workspace_lose_no_line(tmp_path: Path):
    """Each handle has a lock of its own, as each process has."""
    path = tmp_path / "audit.jsonl"

    def write(first: int) -> None:
        log = AuditLog(path, max_bytes=3_000, max_files=60)
        for number in range(first, first + 150):
            log.write(Visit(status=number), method="GET", address="")

    work = [threading.Thread(target=write, args=(first,)) for first in (0, 1000, 2000)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    found = [line["status"] for file in tmp_path.iterdir() for line in lines(file)]
    assert sorted(found) == [first + number for first in (0, 1000, 2000) for number in range(150)]


def test_threads_do_not_mix_lines(tmp_path: Path):
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=10**7, max_files=1)
    work = [
        threading.Thread(target=lambda: [log.write(Visit(), method="GET", address="") for _ in range(50)])
        for _ in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(lines(tmp_path / "audit.jsonl")) == 400


def test_a_log_that_cannot_be_written_is_said_and_costs_nothing(tmp_path: Path, caplog):
    (tmp_path / "file").write_text("")
    AuditLog(tmp_path / "file" / "audit.jsonl", max_bytes=100, max_files=1).write(Visit(), method="GET", address="")
    assert "misses a line" in caplog.text


def test_the_server_writes_every_request_and_no_content(tiny: LanguageModel, workspace: Workspace, tmp_path: Path):
    keys = tmp_path / "keys.toml"
    key = add_key(keys, "alice")
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key="", keys=str(keys)))
    with TestClient(app, base_url="http://localhost") as client:
        headers = {"authorization": f"Bearer {key}"}
        body = {"model": "tiny", "prompt": CONTENT, "max_tokens": 3, "seed": 0}
        whole = client.post("/v1/completions", json=body, headers=headers).json()
        streamed = client.post("/v1/completions", json=body | {"stream": True}, headers=headers)
        assert streamed.status_code == 200
        for _ in range(3):
            client.post("/v1/completions", json=body, headers={"authorization": "Bearer blm-wrong"})
        client.get(f"/v1/models/{CONTENT}?key={key}", headers=headers)
        client.get(f"/{key}", headers=headers)
        client.get("/health")
    path = workspace.root / "audit.jsonl"
    found = lines(path)
    *found, refused = found
    assert (refused["key"], refused["address"], refused["status"]) == ("", "testclient", 401)
    assert refused["count"] == 3
    summary = [(line["key"], line["route"], line["model"], line["status"]) for line in found]
    assert summary == [
        ("alice", "/v1/completions", "tiny", 200),
        ("alice", "/v1/completions", "tiny", 200),
        ("alice", "/v1/models/{name:path}", "", 404),
        ("alice", "unknown", "", 404),
    ]
    for line in found[:2]:
        assert line["prompt_tokens"] == whole["usage"]["prompt_tokens"] and line["completion_tokens"] == 3
        assert line["energy_joules"] is not None
    text = path.read_text()
    assert CONTENT not in text and key not in text and "blm-" not in text
    assert [row["tenant"] for row in workspace.ledger.requests()] == ["alice", "alice"]


@pytest.mark.parametrize("stream", [False, True])
def test_who_reads_the_end_of_an_answer_finds_its_line(tiny: LanguageModel, workspace: Workspace, stream: bool):
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key=""))
    path, at_end = workspace.root / "audit.jsonl", []

    async def watched(scope, receive, send):
        async def sending(message):
            body = message.get("body", b"")
            if b"[DONE]" in body or (message["type"] == "http.response.body" and not message.get("more_body")):
                at_end.append(len(lines(path)) if path.exists() else 0)
            await send(message)

        await app(scope, receive, sending if scope["type"] == "http" else send)

    with TestClient(watched, base_url="http://localhost") as client:
        body = {"model": "tiny", "prompt": "x", "max_tokens": 3, "stream": stream, "ignore_eos": True}
        assert client.post("/v1/completions", json=body).status_code == 200
        assert client.get("/v1/models").status_code == 200
    assert at_end == [1, 1, 2] if stream else at_end == [1, 2]
    assert [line["completion_tokens"] for line in lines(path)] == [3, 0]


def test_no_log_where_none_is_wanted(tiny: LanguageModel, workspace: Workspace):
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key="", audit_log=""))
    with TestClient(app, base_url="http://localhost") as client:
        client.get("/v1/models")
    assert not (workspace.root / "audit.jsonl").exists()


def test_strangers_do_not_fill_the_log(tmp_path: Path):
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path, max_bytes=10**7, max_files=1)
    for second in range(90):
        for number in range(30):
            log.refuse(Visit(status=401, began=6_000.0 + second), address=f"10.0.{second % 60}.{number % 5}")
    assert {line["time"] for line in lines(path)} == {"1970-01-01T01:40:00.000+00:00"}
    log.refuse(Visit(status=403, began=6_119.0), address="10.0.0.0")
    log.close()
    log.close()
    found = lines(path)
    assert sum(line["count"] for line in found) == 90 * 30 + 1
    assert [line["count"] for line in found if line["address"] == "10.0.7.1"] == [6, 6]
    assert [line["count"] for line in found if line["status"] == 403] == [1]


def test_a_clock_that_is_turned_back_keeps_no_count_waiting(tmp_path: Path):
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=10**7, max_files=1)
    log.refuse(Visit(status=401, began=90_000.0), address="a")
    log.write(Visit(status=200, began=60.0), method="GET", address="")  # it took a day
    log.refuse(Visit(status=401, began=89_990.0), address="a")  # came before the other, was refused later
    assert [line["status"] for line in lines(log.path)] == [200]
    for _ in range(3):
        log.refuse(Visit(status=401, began=3_600.0), address="b")
    assert lines(log.path)[-1]["count"] == 2
    log.refuse(Visit(status=401, began=3_660.0), address="b")
    assert (lines(log.path)[-1]["count"], lines(log.path)[-1]["address"]) == (3, "b")


def test_a_line_that_a_full_disk_cuts_spoils_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=10**7, max_files=1)
    log.write(Visit(status=1), method="GET", address="")
    room = log.path.stat().st_size + 20
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        for status in (2, 3):
            log.write(Visit(status=status), method="GET", address="")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caplog.text.count("the audit log misses a line") == 2
    assert log.path.stat().st_size == room
    log.write(Visit(status=4), method="GET", address="")
    first, cut, last = log.path.read_text().splitlines()
    assert json.loads(first)["status"] == 1 and json.loads(last)["status"] == 4
    assert cut.startswith('{"time": ') and len(cut) == 20


def test_addresses_that_are_counted_are_bounded(tmp_path: Path):
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=10**7, max_files=1)
    for number in range(3_000):
        log.refuse(Visit(status=401, began=60.0), address=str(number))
    log.write(Visit(status=200, began=130.0), method="GET", address="")
    found = lines(log.path)
    assert len(found) == 1_002 and found[-2]["count"] == 2_000 and found[-2]["address"] == "others"


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_servers_end_cut_off_is_no_success(
    tiny: LanguageModel, workspace: Workspace, monkeypatch, stream: bool
):
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key=""))
    run_all = tiny.engine.run_all

    def ending(*args, **options):
        app.state.service.drain.begin()
        app.state.service.room.close()
        return run_all(*args, **options)

    monkeypatch.setattr(tiny.engine, "run_all", ending)
    with TestClient(app, base_url="http://localhost") as client:
        body = {"model": "tiny", "prompt": "x", "max_tokens": 50, "stream": stream}
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == (200 if stream else 503) and "shutting_down" in answer.text
        assert client.post("/v1/completions", json=body).status_code == 503  # refused, and by its own name
    path, end = workspace.root / "audit.jsonl", time.monotonic() + 20
    while len(lines(path)) < 2 and time.monotonic() < end:  # the one that was cut off ends in its own thread
        time.sleep(0.01)
    cut, refused = sorted(lines(path), key=lambda line: line.get("model") != "tiny")
    assert (cut["status"], cut["model"], cut["key"]) == (503, "tiny", "anonymous")
    assert (refused["status"], refused["route"], refused["key"]) == (503, "/v1/completions", "anonymous")
    while not workspace.ledger.requests() and time.monotonic() < end:
        time.sleep(0.01)
    assert [row["status"] for row in workspace.ledger.requests()] == [503]
