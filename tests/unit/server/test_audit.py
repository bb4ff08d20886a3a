"""AuditLog: one line a request, without content or secrets; files of a bounded size, the oldest deleted."""

from __future__ import annotations

import json
import stat
import threading
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
        client.post("/v1/completions", json=body, headers={"authorization": "Bearer blm-wrong"})
        client.get(f"/v1/models/{CONTENT}?key={key}", headers=headers)
        client.get(f"/{key}", headers=headers)
        client.get("/health")
    path = workspace.root / "audit.jsonl"
    found = lines(path)
    summary = [(line["key"], line["route"], line["model"], line["status"]) for line in found]
    assert summary == [
        ("alice", "/v1/completions", "tiny", 200),
        ("alice", "/v1/completions", "tiny", 200),
        ("", "/v1/completions", "", 401),
        ("alice", "/v1/models/{name:path}", "", 404),
        ("alice", "unknown", "", 404),
    ]
    for line in found[:2]:
        assert line["prompt_tokens"] == whole["usage"]["prompt_tokens"] and line["completion_tokens"] == 3
        assert line["energy_joules"] is not None
    text = path.read_text()
    assert CONTENT not in text and key not in text and "blm-" not in text
    assert [row["tenant"] for row in workspace.ledger.requests()] == ["alice", "alice"]


def test_no_log_where_none_is_wanted(tiny: LanguageModel, workspace: Workspace):
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key="", audit_log=""))
    with TestClient(app, base_url="http://localhost") as client:
        client.get("/v1/models")
    assert not (workspace.root / "audit.jsonl").exists()
