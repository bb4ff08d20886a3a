"""The openai package, unmodified: tools, streamed and not, results fed back, structured outputs, and their errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field, ValidationError

ASK: list = [{"role": "user", "content": "Is it hot?"}]
CITY = {"type": "string", "enum": ["Ur", "Uruk", "Nippur"]}
PLACE = {"type": "object", "properties": {"city": CITY}, "required": ["city"], "additionalProperties": False}
TOOLS: list = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Forecast.", "parameters": PLACE, "strict": True},
    },
    {
        "type": "function",
        "function": {"name": "stop", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
    },
]


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none", max_retries=0) as client:
        yield client


def options(seed: int, **more: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "messages": ASK,
        "seed": seed,
        "max_tokens": 350,
        "temperature": 1.0,
        "tools": TOOLS,
        **more,
    }


def check(name: str, arguments: str) -> None:
    values = json.loads(arguments)
    assert (name == "weather" and values["city"] in CITY["enum"]) or (name == "stop" and values == {})


@pytest.mark.parametrize("seed", range(4))
def test_required_calls_whole_and_streamed(client: openai.OpenAI, seed: int):
    answer = client.chat.completions.create(**options(seed, tool_choice="required", parallel_tool_calls=False))
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None and choice.message.tool_calls
    (call,) = choice.message.tool_calls
    check(call.function.name, call.function.arguments)
    stream = client.chat.completions.create(
        **options(seed, tool_choice="required", parallel_tool_calls=False), stream=True
    )
    name, arguments, reasons = "", "", []
    for chunk in stream:
        for piece in chunk.choices[0].delta.tool_calls or []:
            assert piece.index == 0 and piece.function is not None
            name += piece.function.name or ""
            arguments += piece.function.arguments or ""
        reasons.append(chunk.choices[0].finish_reason)
    assert (name, arguments) == (call.function.name, call.function.arguments)
    assert reasons[-1] == "tool_calls" and set(reasons[:-1]) == {None}


def test_the_stream_helper_collects_calls(client: openai.OpenAI):
    with client.chat.completions.stream(**options(1, tool_choice="required", parallel_tool_calls=False)) as stream:
        events = [event.type for event in stream]
        snapshot = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.delta" in events and "tool_calls.function.arguments.done" in events
    assert snapshot.tool_calls
    check(snapshot.tool_calls[0].function.name, snapshot.tool_calls[0].function.arguments)


def test_a_named_function(client: openai.OpenAI):
    named: Any = {"type": "function", "function": {"name": "stop"}}
    choice = client.chat.completions.create(**options(2, tool_choice=named)).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
    assert [call.function.name for call in choice.message.tool_calls] == ["stop"]


def test_parallel_calls(client: openai.OpenAI):
    """A random model calls on until its tokens end: each call is whole, but perhaps the last."""
    found = 0
    for seed in range(12):
        choice = client.chat.completions.create(**options(seed, tool_choice="required", logprobs=None)).choices[0]
        calls = choice.message.tool_calls or []
        found = max(found, len(calls))
        for call in calls if choice.finish_reason == "tool_calls" else calls[:-1]:
            check(call.function.name, call.function.arguments)
        assert len({call.id for call in calls}) == len(calls)
        if found > 1:
            return
    assert found > 1


def test_results_fed_back(client: openai.OpenAI):
    first = (
        client.chat.completions.create(**options(3, tool_choice="required", parallel_tool_calls=False))
        .choices[0]
        .message
    )
    assert first.tool_calls
    answered = [{"role": "tool", "tool_call_id": call.id, "content": "forty degrees"} for call in first.tool_calls]
    messages: Any = [*ASK, first, *answered]
    short = {"max_tokens": 10, "tool_choice": "none"}
    said = client.chat.completions.create(**options(3, messages=messages, **short))
    assert said.choices[0].message.tool_calls is None and said.choices[0].message.content is not None
    assert said.usage and said.usage.prompt_tokens > 40


def test_free_text_with_tools_at_hand(client: openai.OpenAI):
    choice = client.chat.completions.create(**options(0, max_tokens=15)).choices[0]
    assert choice.message.content and not choice.message.tool_calls and choice.finish_reason in ("stop", "length")


class Metal(Enum):
    IRON = "iron"
    TIN = "tin"


class Ingot(BaseModel):
    metal: Metal
    grams: int = Field(ge=1, le=9)
    grade: Literal["a", "b"] | None


class Load(BaseModel):
    ingots: list[Ingot] = Field(max_length=2)
    paid: bool


def test_parse_with_a_pydantic_model(client: openai.OpenAI):
    parsed = 0
    for seed in range(6):
        try:
            answer = client.chat.completions.parse(
                model="tiny", messages=ASK, response_format=Load, seed=seed, max_tokens=500, temperature=0.8
            )
        except openai.LengthFinishReasonError:
            continue
        assert isinstance(answer.choices[0].message.parsed, Load) and answer.choices[0].finish_reason == "stop"
        parsed += 1
    assert parsed >= 3


def test_parse_with_tools_calls_or_answers(client: openai.OpenAI):
    tool = openai.pydantic_function_tool(Ingot, name="weigh")
    seen = set()
    for seed in range(10):
        try:
            answer = client.chat.completions.parse(
                model="tiny",
                messages=ASK,
                tools=[tool],
                response_format=Load,
                seed=seed,
                max_tokens=500,
                temperature=2.0,
            )
        except openai.LengthFinishReasonError:
            continue
        message = answer.choices[0].message
        if message.tool_calls:
            assert isinstance(message.tool_calls[0].function.parsed_arguments, Ingot)
            assert answer.choices[0].finish_reason == "tool_calls"
        else:
            assert isinstance(message.parsed, Load)
        seen.add(bool(message.tool_calls))
    assert seen


def test_json_object_and_extensions(client: openai.OpenAI):
    json_object: Any = {"type": "json_object"}
    choice = client.chat.completions.create(
        model="tiny", messages=ASK, response_format=json_object, seed=1, max_tokens=400
    ).choices[0]
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content or ""), dict)
    picked = client.chat.completions.create(model="tiny", messages=ASK, extra_body={"guided_choice": ["iron", "tin"]})
    assert picked.choices[0].message.content in ("iron", "tin")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}},
            "response_format",
        ),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
    ],
    ids=str,
)
def test_errors_are_the_clients_own(client: openai.OpenAI, body: dict, param: str):
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**{"model": "tiny", "messages": ASK, "stream": stream, **body})
        assert caught.value.param == param and caught.value.type == "invalid_request_error" and caught.value.code


FLAT: list = [{"type": "function", **tool["function"]} for tool in TOOLS]


def respond(client: openai.OpenAI, seed: int, **more: Any) -> Any:
    ask: dict[str, Any] = {"model": "tiny", "input": "Is it hot?", "max_output_tokens": 350, "tools": FLAT}
    return client.responses.create(**ask | {"extra_body": {"seed": seed}} | more)


def test_responses_call_functions_and_read_what_they_gave(client: openai.OpenAI):
    first = respond(client, 1, tool_choice="required", parallel_tool_calls=False)
    (call,) = first.output
    assert call.type == "function_call" and first.status == "completed"
    check(call.name, call.arguments)
    given: list = [{"role": "user", "content": "Is it hot?"}, *first.output]
    given.append({"type": "function_call_output", "call_id": call.call_id, "output": "forty degrees"})
    said = respond(client, 2, input=given, tool_choice="none", max_output_tokens=12)
    assert said.output[0].type == "message" and said.usage.input_tokens > 40


def test_responses_stream_calls(client: openai.OpenAI):
    with client.responses.stream(
        model="tiny", input="Is it hot?", tools=FLAT, tool_choice="required", parallel_tool_calls=False,
        max_output_tokens=350, extra_body={"seed": 1},
    ) as stream:  # fmt: skip
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    whole = respond(client, 1, tool_choice="required", parallel_tool_calls=False)
    assert [(i.name, i.arguments) for i in final.output] == [(i.name, i.arguments) for i in whole.output]  # type: ignore[union-attr]
    assert "response.function_call_arguments.delta" in kinds and kinds[-1] == "response.completed"


def test_responses_parse_with_a_pydantic_model(client: openai.OpenAI):
    parsed = 0
    for seed in range(6):
        try:
            answer = client.responses.parse(
                model="tiny", input="Weigh", text_format=Ingot, max_output_tokens=400, extra_body={"seed": seed}
            )
        except ValidationError:  # the client parses what the limit has cut, too
            continue
        assert answer.status == "completed" and isinstance(answer.output_parsed, Ingot)
        parsed += 1
    assert parsed
