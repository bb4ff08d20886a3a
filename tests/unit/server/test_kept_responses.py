"""Responses that are kept: gone on from, read again and deleted, by the key that asked and nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel
from bloomery.server import ServeConfig, build_app
from bloomery.server.keys import add_key

ROUTE = "/v1/responses"
HELLO = {"model": "tiny", "input": "Hello", "max_output_tokens": 8, "seed": 3}


@pytest.fixture
def keyed(tiny: LanguageModel, workspace: Workspace, tmp_path) -> Iterator[dict[str, TestClient]]:
    path = tmp_path / "keys.toml"
    keys = {name: add_key(path, name) for name in ("alice", "bob")}
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key="", keys=str(path), store="content"))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield {
            name: TestClient(app, base_url="http://localhost", headers={"authorization": f"Bearer {key}"})
            for name, key in keys.items()
        }
        _ = client


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_goes_on_from_what_was_kept(keyed: dict[str, TestClient], stream: bool):
    alice = keyed["alice"]
    first = alice.post(ROUTE, json={**HELLO, "instructions": "Be brief"}).json()
    if stream:
        lines = alice.post(ROUTE, json={**HELLO, "instructions": "Be brief", "stream": True}).text
        import json

        first = json.loads(lines.strip().splitlines()[-1].removeprefix("data: "))["response"]
    assert first["store"] is True
    second = alice.post(ROUTE, json={**HELLO, "input": "And?", "previous_response_id": first["id"]}).json()
    whole = [{"role": "user", "content": "Hello"}, *first["output"], {"role": "user", "content": "And?"}]
    same = alice.post(ROUTE, json={**HELLO, "input": whole}).json()  # instructions are not carried over
    assert second["output"][0]["content"] == same["output"][0]["content"]
    assert second["usage"]["input_tokens"] == same["usage"]["input_tokens"]
    assert second["previous_response_id"] == first["id"]
    third = alice.post(ROUTE, json={**HELLO, "input": "So?", "previous_response_id": second["id"]}).json()
    assert third["usage"]["input_tokens"] > second["usage"]["input_tokens"]


def test_only_whose_it_is_sees_it_and_may_delete_it(keyed: dict[str, TestClient], workspace: Workspace):
    alice, bob = keyed["alice"], keyed["bob"]
    first = alice.post(ROUTE, json=HELLO).json()
    one = f"{ROUTE}/{first['id']}"
    assert alice.get(one).json() == first
    assert bob.get(one).status_code == bob.delete(one).status_code == 404
    refused = bob.post(ROUTE, json={**HELLO, "previous_response_id": first["id"]})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("previous_response_not_found", "previous_response_id")
    assert alice.delete(one).json() == {"id": first["id"], "object": "response", "deleted": True}
    assert alice.get(one).status_code == alice.delete(one).status_code == 404
    assert first["output"][0]["content"][0]["text"].encode() not in (workspace.root / "requests.sqlite").read_bytes()


def test_what_is_not_to_be_kept_is_not(keyed: dict[str, TestClient]):
    alice = keyed["alice"]
    first = alice.post(ROUTE, json={**HELLO, "store": False}).json()
    assert first["store"] is False and alice.get(f"{ROUTE}/{first['id']}").status_code == 404


def test_a_server_that_keeps_nothing_says_so(client: TestClient):
    answer = client.post(ROUTE, json={**HELLO, "store": True})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "store"
    assert client.post(ROUTE, json=HELLO).json()["store"] is False
    assert client.get(f"{ROUTE}/resp-1").json()["error"]["code"] == "not_found"
