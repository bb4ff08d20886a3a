"""POST /v1/responses: input in every form means the same conversation as chat; what is not supported is named."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from openai.types.responses import Response as OpenAIResponse

ROUTE = "/v1/responses"
HELLO = {"model": "tiny", "input": "Hello", "max_output_tokens": 8, "seed": 3}


def ask(client: TestClient, **body) -> dict:
    answer = client.post(ROUTE, json={**HELLO, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def text(answer: dict) -> str:
    return answer["output"][0]["content"][0]["text"]


def test_it_is_openais_object_and_chats_answer(client: TestClient):
    answer = ask(client, instructions="Be brief", temperature=1.5, top_p=0.9)
    parsed = OpenAIResponse.model_validate(answer, strict=False)
    messages = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hello"}]
    options = {"model": "tiny", "max_tokens": 8, "seed": 3, "temperature": 1.5, "top_p": 0.9}
    chat = client.post("/v1/chat/completions", json={**options, "messages": messages}).json()
    assert parsed.output_text == text(answer) == chat["choices"][0]["message"]["content"]
    assert parsed.usage is not None and parsed.usage.input_tokens == chat["usage"]["prompt_tokens"]
    assert parsed.usage.output_tokens == chat["usage"]["completion_tokens"]
    assert parsed.instructions == "Be brief" and answer["store"] is False
    assert set(answer["usage"]["energy_joules"]) == {"low", "central", "high", "method"}


@pytest.mark.parametrize(
    "given",
    [[{"role": "user", "content": "Hello"}], [{"type": "message", "role": "user", "content": "Hello"}],
     [{"role": "user", "content": [{"type": "input_text", "text": "Hel"}, {"type": "input_text", "text": "lo"}]}]],
)  # fmt: skip
def test_every_form_of_input_is_the_same_conversation(client: TestClient, given: list):
    assert text(ask(client, input=given)) == text(ask(client))


def test_a_conversation_goes_on_with_what_came_out(client: TestClient):
    first = ask(client)
    item = first["output"][0]
    going_on = ask(client, input=[{"role": "user", "content": "Hello"}, item, {"role": "user", "content": "And?"}])
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": text(first)},
        {"role": "user", "content": "And?"},
    ]
    chat = client.post("/v1/chat/completions", json={"model": "tiny", "messages": messages, "max_tokens": 8, "seed": 3})
    assert text(going_on) == chat.json()["choices"][0]["message"]["content"]


def test_the_limit_makes_it_incomplete(client: TestClient):
    # Greedy, and then one token fewer than it takes.
    answer = ask(client, max_output_tokens=1)
    assert answer["status"] == "incomplete" and answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["output"][0]["status"] == "incomplete"


def test_values_that_ask_for_nothing(client: TestClient):
    ask(
        client,
        store=False, tools=[], tool_choice="auto", parallel_tool_calls=True, include=[], truncation="disabled",
        previous_response_id=None, reasoning={"effort": None}, metadata={"a": "b"}, user="x", service_tier="auto",
        text={"format": {"type": "text"}}, background=False, prompt_cache_key="k",
    )  # fmt: skip
    assert ask(client, metadata={"a": "b"})["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    ("body", "param"),
    [({"store": True}, "store"), ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
     ({"background": True}, "background"),
     ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": "c"}, "conversation"),
     ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
     ({"reasoning": {"effort": "high"}}, "reasoning"),
     ({"include": ["reasoning.encrypted_content"]}, "include.0"), ({"truncation": "auto"}, "truncation"),
     ({"top_logprobs": 3}, "top_logprobs"), ({"nonsense": 1}, "nonsense"), ({"tool_choice": "required"}, "tool_choice"),
     ({"input": []}, "input"), ({"input": 3}, None), ({"max_output_tokens": 0}, "max_output_tokens"),
     ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
     ({"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, "input.0.call_id"),
     ({"input": [{"type": "function_call", "call_id": "x", "name": "y", "arguments": "z"}]}, "input.0.arguments"),
     ({"tools": [{"type": "function"}]}, "tools.0.name"), ({"tools": [{"type": "function", "name": "a b"}]}, "tools.0"),
     ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
     ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}}, "text.format"),
     ({"tools": [{"type": "function", "name": "a"}], "tool_choice": {"type": "function", "name": "b"}}, "tool_choice"),
     ({"tools": [{"type": "function", "name": "a"}], "tool_choice": {"type": "mcp"}}, "tool_choice"),
     ({"input": [{"role": "user"}]}, "input.0.content"), ({"input": [{"role": "tool", "content": "x"}]}, None),
     ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, "input.0.content.0"),
     ({"input": [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}]}, "input.0.content.0"),
     ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]}, "input.0.content.0"),
     ({"stream_options": {}}, "stream_options"), ({"temperature": -1}, "temperature"),
     ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x.example/a.png"}]}]},
      "input.0.content.0.image_url")],
)  # fmt: skip
def test_what_is_refused_by_name(client: TestClient, body: dict, param: str | None):
    answer = client.post(ROUTE, json={**HELLO, **body})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["message"] and (param is None or error["param"] == param)


def test_numbers_that_json_does_not_have_are_not_told(client: TestClient):
    body = b'{"model": "tiny", "input": "x", "max_output_tokens": 1, "metadata": {"a": [NaN, 1e999, 2]}}'
    answer = client.post(ROUTE, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200 and answer.json()["metadata"] == {"a": [None, None, 2]}


def test_the_sampling_parameters_of_the_other_routes_are_those_of_this_one(client: TestClient):
    more = {"typical_p": 0.9, "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.4}
    more |= {"logit_bias": {"80": 3.0}, "stop": ["e"], "temperature": 1.2, "ignore_eos": True}
    messages = [{"role": "user", "content": "Hello"}]
    asked = {"model": "tiny", "messages": messages, "max_tokens": 40, "seed": 3}
    chat = client.post("/v1/chat/completions", json={**asked, **more}).json()["choices"][0]
    answer = ask(client, **{"max_output_tokens": 40} | more)
    assert text(answer) == chat["message"]["content"]
    assert answer["status"] == ("completed" if chat["finish_reason"] == "stop" else "incomplete")
    refused = client.post(ROUTE, json={**HELLO, "typical_p": 2})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "typical_p")
