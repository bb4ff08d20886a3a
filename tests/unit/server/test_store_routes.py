"""The request store's routes: who sees whose requests, what is kept of each route, feedback, nonsense refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.server import ServeConfig, build_app
from bloomery.server.keys import add_key
from bloomery.server.store import FILE

ASK = {"model": "tiny", "prompt": "Once upon an anvil", "max_tokens": 4, "seed": 1}


@pytest.fixture
def kept(tiny: LanguageModel, minilm: TextEncoder, workspace: Workspace) -> Iterator[TestClient]:
    app = build_app([tiny, minilm], workspace=workspace, config=ServeConfig(api_key="", store="content"))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def test_every_route_is_kept_as_it_was_asked(kept: TestClient, tiny: LanguageModel):
    whole = kept.post("/v1/completions", json=ASK | {"n": 2}).json()
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hammer?"}], "max_tokens": 3, "stream": True}
    assert kept.post("/v1/chat/completions", json=chat).status_code == 200
    kept.post("/v1/responses", json={"model": "tiny", "input": "Tongs?", "max_output_tokens": 2})
    kept.post("/v1/embeddings", json={"model": "minilm", "input": ["bellows", "slag"]})
    page = kept.get("/v1/requests").json()
    assert page["object"] == "list" and not page["has_more"] and len(page["data"]) == 4
    routes = ["/v1/embeddings", "/v1/responses", "/v1/chat/completions", "/v1/completions"]
    assert [row["route"] for row in page["data"]] == routes
    found = kept.get(f"/v1/requests/{whole['id']}").json()
    assert [p["text"] for p in found["prompts"]] == ["<|endoftext|>Once upon an anvil"]
    assert found["prompts"][0]["token_ids"] == tiny.encode_prompt("Once upon an anvil")
    assert [a["text"] for a in found["answers"]] == [c["text"] for c in whole["choices"]]
    assert found["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert found["energy_joules"] == whole["usage"]["energy_joules"]
    assert 0 < found["first_token_seconds"] <= found["seconds"]
    for text, route in zip(("bellows", "Tongs?", "Hammer?"), routes, strict=False):
        assert [r["route"] for r in kept.get("/v1/requests", params={"text": text}).json()["data"]] == [route]


def test_best_of_keeps_what_was_told(kept: TestClient):
    whole = kept.post("/v1/completions", json=ASK | {"best_of": 4, "n": 2, "temperature": 2.0}).json()
    found = kept.get(f"/v1/requests/{whole['id']}").json()
    assert [a["text"] for a in found["answers"]] == [c["text"] for c in whole["choices"]]
    assert found["completion_tokens"] == whole["usage"]["completion_tokens"] > 8


def test_a_client_may_ask_that_its_content_is_not_kept(kept: TestClient):
    kept.post("/v1/completions", json=ASK | {"store": False})
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1, "store": False}
    kept.post("/v1/chat/completions", json=chat)
    kept.post("/v1/responses", json={"model": "tiny", "input": "x", "max_output_tokens": 1, "store": False})
    rows = kept.get("/v1/requests").json()["data"]
    assert len(rows) == 3
    for row in rows:
        assert kept.get(f"/v1/requests/{row['id']}").json()["prompts"] is None


def test_pages_and_feedback(kept: TestClient):
    asked = [kept.post("/v1/completions", json=ASK).json()["id"] for _ in range(3)]
    first = kept.get("/v1/requests", params={"limit": 2}).json()
    assert first["has_more"] and first["last_id"] == asked[1]
    second = kept.get("/v1/requests", params={"limit": 2, "after": first["last_id"]}).json()
    assert not second["has_more"] and [row["id"] for row in second["data"]] == asked[:1]
    told = kept.post(f"/v1/requests/{asked[0]}/feedback", json={"score": -1, "comment": "too cold"}).json()
    assert told["mean_score"] == -1 and told["feedback"][0]["comment"] == "too cold"
    assert told["feedback"][0]["tenant"] == "anonymous"


@pytest.mark.parametrize(
    "body",
    [{}, {"score": 1.01}, {"score": "1"}, {"score": None}, {"score": 0, "comment": 3}, {"score": 0, "stars": 5},
     {"score": 0, "comment": "x" * 10_001}],
)  # fmt: skip
def test_feedback_that_is_none(kept: TestClient, body: dict):
    request = kept.post("/v1/completions", json=ASK).json()["id"]
    answer = kept.post(f"/v1/requests/{request}/feedback", json=body)
    assert answer.status_code == 400 and set(answer.json()) == {"error"}


NO_QUERIES = ["limit=0", "limit=101", "limit=x", "since=nan", "until=inf", "page=2", "text=" + "x" * 501]


@pytest.mark.parametrize("query", NO_QUERIES)
def test_queries_that_are_none(kept: TestClient, query: str):
    assert kept.get(f"/v1/requests?{query}").status_code == 400


@pytest.mark.parametrize("name", ["nobody", "%00", "%ff", "a b", "%F0%9F%94%A5", "x" * 2000])
def test_unknown_requests(kept: TestClient, name: str):
    assert kept.get(f"/v1/requests/{name}").json()["error"]["code"] == "request_not_found"
    assert kept.post(f"/v1/requests/{name}/feedback", json={"score": 0}).status_code == 404
    half, headers = b'{"score": 0, "comment": "\\ud83d"}', {"content-type": "application/json"}
    assert kept.post(f"/v1/requests/{name}/feedback", content=half, headers=headers).status_code in (400, 404)


def test_keys_see_what_their_rights_say(tiny: LanguageModel, workspace: Workspace, tmp_path: Path):
    file = tmp_path / "keys.toml"
    rights = {"alice": ("inspect",), "bob": ("inspect",), "carol": (), "root": ("admin",)}
    keys = {name: {"authorization": f"Bearer {add_key(file, name, rights=r)}"} for name, r in rights.items()}
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key="", keys=str(file), store="metadata"))
    with TestClient(app, base_url="http://localhost") as client:
        made = {n: client.post("/v1/completions", json=ASK, headers=keys[n]).json()["id"] for n in rights}

        def seen(name: str) -> set[str]:
            return {row["id"] for row in client.get("/v1/requests", headers=keys[name]).json()["data"]}

        assert seen("alice") == {made["alice"]} and seen("root") == set(made.values())
        assert client.get("/v1/requests", headers=keys["carol"]).status_code == 403
        mine, other = f"/v1/requests/{made['alice']}", f"/v1/requests/{made['bob']}"
        assert client.get(mine, headers=keys["alice"]).json()["answers"] is None
        assert client.get(other, headers=keys["alice"]).status_code == 404
        assert client.post(f"{other}/feedback", json={"score": 1}, headers=keys["alice"]).status_code == 404
        assert client.post(f"{mine}/feedback", json={"score": 1}, headers=keys["carol"]).status_code == 403
        assert client.post(f"{mine}/feedback", json={"score": 1}, headers=keys["root"]).status_code == 200


def test_off_unless_it_is_asked_for(client: TestClient, workspace: Workspace, tiny: LanguageModel):
    client.post("/v1/completions", json=ASK)
    assert client.get("/v1/requests").json()["error"]["code"] == "store_off"
    assert not (workspace.root / FILE).exists()
    with pytest.raises(ConfigError, match="workspace"):
        build_app(tiny, config=ServeConfig(api_key="", store="metadata"))
