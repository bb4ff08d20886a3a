"""Functions and structured answers in /v1/responses: the chat route's constraints, OpenAI's items and events."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from fastapi.testclient import TestClient
from openai.types.responses import Response as OpenAIResponse
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from bloomery.engine import LanguageModel, load
from bloomery.server import ServeConfig, build_app

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]
ROUTE = "/v1/responses"
GRAMS = {
    "type": "object",
    "properties": {"grams": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["grams"],
    "additionalProperties": False,
}
WEIGH = {"type": "function", "name": "weigh", "description": "Weighs.", "parameters": GRAMS, "strict": True}
REST = {"type": "function", "name": "rest", "parameters": {"type": "object", "additionalProperties": False}}
BODY = {"model": "tiny", "input": "How heavy?", "max_output_tokens": 300, "temperature": 1.3, "tools": [WEIGH, REST]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """With room for descriptions of tools."""
    return load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", context=1024), device="cpu")


@pytest.fixture(scope="module")
def client(tiny: LanguageModel) -> Iterator[TestClient]:
    app = build_app(tiny, config=ServeConfig(api_key=""))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


def ask(client: TestClient, **body) -> dict:
    answer = client.post(ROUTE, json={**BODY, **body})
    assert answer.status_code == 200, answer.text
    OpenAIResponse.model_validate(answer.json(), strict=False)
    return answer.json()


def events(client: TestClient, **body) -> list[dict]:
    answer = client.post(ROUTE, json={**BODY, **body, "stream": True})
    found = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        TypeAdapter(ResponseStreamEvent).validate_python(event)
    return found


ONE = {"tool_choice": "required", "parallel_tool_calls": False}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weigh"}], ids=["any", "named"])
def test_a_required_call_is_an_item_and_its_events_are_in_openais_order(client: TestClient, choice):
    body = {**ONE, "tool_choice": choice, "seed": 2}
    answer = ask(client, **body)
    (call,) = answer["output"]
    assert (call["type"], call["status"]) == ("function_call", "completed") and answer["status"] == "completed"
    if call["name"] == "weigh":
        jsonschema.validate(json.loads(call["arguments"]), GRAMS)
    assert answer["tools"][0]["name"] == "weigh" and answer["tool_choice"] == choice
    assert answer["parallel_tool_calls"] is False
    found = events(client, **body)
    kinds = [event["type"].removeprefix("response.") for event in found]
    deltas = ["function_call_arguments.delta"] * kinds.count("function_call_arguments.delta")
    before, after = (
        ["created", "in_progress", "output_item.added"],
        ["function_call_arguments.done", "output_item.done"],
    )
    assert kinds == [*before, *deltas, *after, "completed"]
    assert "".join(e["delta"] for e in found if e["type"].endswith(".delta")) == call["arguments"]
    item = found[-1]["response"]["output"][0]
    assert (item["name"], item["arguments"]) == (call["name"], call["arguments"]) and item["id"].startswith("fc_")
    assert {e["item_id"] for e in found if "item_id" in e} == {item["id"]}


def test_parallel_calls_are_items_one_after_the_other(client: TestClient):
    for seed in range(12):
        answer = ask(client, tool_choice="required", seed=seed)
        calls = answer["output"]
        if len(calls) > 1 and answer["status"] == "completed":  # a call that is cut may come as text
            assert len({call["call_id"] for call in calls}) == len(calls)
            found = events(client, tool_choice="required", seed=seed)
            places = [e["output_index"] for e in found if e["type"] == "response.output_item.added"]
            assert places == list(range(len(calls)))
            return
    raise AssertionError("never two calls")


def test_only_allowed_tools_are_called(client: TestClient):
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "rest"}]}
    answer = ask(client, tool_choice=allowed, parallel_tool_calls=False, seed=1)
    assert [item["name"] for item in answer["output"]] == ["rest"]


def test_results_are_fed_back_as_on_the_chat_route(client: TestClient):
    first = ask(client, **ONE, seed=3)["output"]
    outputs = [{"type": "function_call_output", "call_id": call["call_id"], "output": "heavy"} for call in first]
    more = {"max_output_tokens": 10, "tool_choice": "none", "seed": 1}
    said = ask(client, input=[{"role": "user", "content": "How heavy?"}, *first, *outputs], **more)
    messages = [{"role": "user", "content": "How heavy?"}]
    for call in first:
        function = {"name": call["name"], "arguments": call["arguments"]}
        called = [{"id": call["call_id"], "type": "function", "function": function}]
        messages.append({"role": "assistant", "content": None, "tool_calls": called})
    messages += [{"role": "tool", "tool_call_id": one["call_id"], "content": "heavy"} for one in outputs]
    options = {"model": "tiny", "max_tokens": 10, "temperature": 1.3, "seed": 1}
    chat = client.post("/v1/chat/completions", json={**options, "messages": messages}).json()
    assert said["output"][0]["content"][0]["text"] == chat["choices"][0]["message"]["content"]
    assert said["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]


def test_text_formats_are_kept_to(client: TestClient):
    form = {"type": "json_schema", "name": "weight", "schema": GRAMS, "strict": True}
    for seed in range(4):
        answer = ask(client, tools=[], text={"format": form}, seed=seed)
        assert answer["text"]["format"] == form
        if answer["status"] == "completed":
            jsonschema.validate(json.loads(answer["output"][0]["content"][0]["text"]), GRAMS)
    answer = ask(client, tools=[], text={"format": {"type": "json_object"}}, seed=5)
    assert answer["status"] == "incomplete" or json.loads(answer["output"][0]["content"][0]["text"]) is not None


def test_logprobs_where_they_are_included(client: TestClient):
    body = {"tools": [], "include": ["message.output_text.logprobs"], "top_logprobs": 2, "max_output_tokens": 8}
    answer = ask(client, **body, seed=1)
    logprobs = answer["output"][0]["content"][0]["logprobs"]
    chat = client.post(
        "/v1/chat/completions",
        json={"model": "tiny", "messages": [{"role": "user", "content": "How heavy?"}], "max_tokens": 8, "seed": 1,
              "temperature": 1.3, "logprobs": True, "top_logprobs": 2},
    ).json()  # fmt: skip
    assert logprobs == chat["choices"][0]["logprobs"]["content"] and len(logprobs) > 0
    told = [entry for event in events(client, **body, seed=1) if event["type"].endswith("text.delta")
            for entry in event["logprobs"]]  # fmt: skip
    assert told == logprobs
