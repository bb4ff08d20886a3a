"""The events of /v1/responses: their order, numbers and types as the openai package has them; errors inside."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from bloomery.engine import LanguageModel

BODY = {"model": "tiny", "input": "Hello", "stream": True, "seed": 3}
BEFORE = ["created", "in_progress", "output_item.added", "content_part.added"]
AFTER = ["output_text.done", "content_part.done", "output_item.done"]


def events(client: TestClient, **body) -> list[dict]:
    answer = client.post("/v1/responses", json={**BODY, **body})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.removesuffix("\n\n").split("\n\n"):
        kind, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert kind == f"event: {found[-1]['type']}"
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


@pytest.mark.parametrize("tokens", [1, 200])
def test_the_order_and_the_types(client: TestClient, tokens: int):
    found = events(client, max_output_tokens=tokens)
    kinds = [event["type"].removeprefix("response.") for event in found]
    deltas = kinds.count("output_text.delta")
    last = found[-1]["response"]
    assert kinds == [*BEFORE, *["output_text.delta"] * deltas, *AFTER, last["status"]]
    assert last["status"] == ("incomplete" if last["usage"]["output_tokens"] == tokens else "completed")
    for event in found:
        TypeAdapter(ResponseStreamEvent).validate_python(event)
    text = "".join(event["delta"] for event in found if event["type"].endswith("text.delta"))
    assert text == last["output"][0]["content"][0]["text"] == found[-4]["text"]
    assert len({event["item_id"] for event in found if "item_id" in event} | {last["output"][0]["id"]}) == 1
    assert found[0]["response"]["status"] == "in_progress" and found[0]["response"]["usage"] is None
    whole = client.post("/v1/responses", json={**BODY, "stream": False, "max_output_tokens": tokens}).json()
    assert whole["output"][0]["content"][0]["text"] == text and whole["status"] == last["status"]


def test_an_error_inside_is_an_event_that_clients_raise(client: TestClient, tiny: LanguageModel, monkeypatch):
    run_all = tiny.engine.run_all

    def breaking(*args, **options):
        yield from list(run_all(*args, **options))[:3]
        raise RuntimeError("secret path")

    monkeypatch.setattr(tiny.engine, "run_all", breaking)
    last = events(client)[-1]
    assert last["type"] == "error" and last["code"] == "internal_error" and last["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(last)


def test_a_mistake_before_the_stream_is_a_plain_error(client: TestClient):
    answer = client.post("/v1/responses", json={**BODY, "input": "x" * 5_000})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
