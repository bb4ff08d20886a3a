"""Tools and structured answers in /v1/chat/completions, whole and streamed."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.engine import Delta, LanguageModel, load
from bloomery.server import ServeConfig, build_app
from bloomery.server.chat import ChatFormat
from bloomery.tokenizer import STYLES

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]
ROUTE = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 5}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Forecast.", "parameters": PLACE}}
OTHER = {
    "type": "function",
    "function": {"name": "melt", "parameters": {"type": "object", "additionalProperties": False}},
}
ARGUMENTS = '{"city": "Ur", "days": 3}'
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """With room for descriptions of tools."""
    return load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", context=1024), device="cpu")


@pytest.fixture(scope="module")
def client(tiny: LanguageModel) -> Iterator[TestClient]:
    app = build_app(tiny, config=ServeConfig(api_key=""))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, status: int = 200, **body):
    answer = client.post(ROUTE, json={"model": "tiny", "messages": HELLO, "max_tokens": 8, "seed": 1, **body})
    assert answer.status_code == status, answer.text
    return answer.json()


def structured(client: TestClient, **body):
    answer = post(client, **{"max_tokens": 300, "temperature": 1.3, **body})["choices"][0]
    return answer["message"], answer["finish_reason"]


def stream_of(client: TestClient, **body) -> list[dict]:
    asked = {"model": "tiny", "messages": HELLO, "max_tokens": 300, "seed": 1, "temperature": 1.3, "stream": True}
    with client.stream("POST", ROUTE, json=asked | body) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:])["choices"][0] for line in lines[:-1]]


def test_response_formats(client: TestClient):
    form = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PLACE}}
    for seed in range(4):
        message, reason = structured(client, seed=seed, response_format=form)
        if reason == "stop":
            jsonschema.validate(json.loads(message["content"]), PLACE)
        assert reason in ("stop", "length") and "tool_calls" not in message
    message, reason = structured(client, response_format={"type": "json_object"}, seed=5)
    assert reason == "length" or isinstance(json.loads(message["content"]), dict)


@pytest.mark.parametrize(
    ("body", "allowed"),
    [
        ({"guided_choice": ["iron", "ore"]}, {"iron", "ore"}),
        ({"guided_regex": "a|b"}, {"a", "b"}),
        ({"guided_grammar": 'start: "x" | "y"'}, {"x", "y"}),
        ({"guided_json": '{"enum": [1, 2]}'}, {"1", "2"}),
        ({"structured_outputs": {"choice": ["iron", "ore"]}}, {"iron", "ore"}),
        ({"structured_outputs": {"json": {"enum": [1, 2]}}}, {"1", "2"}),
        ({"structured_outputs": {"regex": "a|b"}}, {"a", "b"}),
        ({"response_format": {"type": "text"}, "guided_choice": ["iron"]}, {"iron"}),
    ],
    ids=str,
)
def test_vllms_extensions(client: TestClient, body, allowed):
    for seed in range(4):
        assert structured(client, seed=seed, **body)[0]["content"] in allowed


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "melt"}}], ids=["any", "named"]
)
def test_calls_are_made_when_they_are_required(client: TestClient, seed: int, choice):
    tools = [{"type": "function", "function": {"name": "melt", "parameters": PLACE}}]
    tools.append({"type": "function", "function": {"name": "rest"}})
    body = {"tools": tools, "tool_choice": choice, "seed": seed, "parallel_tool_calls": False, "messages": HELLO}
    message, reason = structured(client, **body)
    if reason == "length":
        return
    assert reason == "tool_calls" and message["content"] is None
    (made,) = message["tool_calls"]
    assert made["type"] == "function" and made["id"].startswith("call_")
    arguments = json.loads(made["function"]["arguments"])
    if made["function"]["name"] == "melt":
        jsonschema.validate(arguments, PLACE)
    else:
        assert made["function"]["name"] == "rest" and choice == "required" and isinstance(arguments, dict)
    deltas = stream_of(client, **body)
    pieces = [piece for d in deltas for piece in d["delta"].get("tool_calls", [])]
    assert [piece["index"] for piece in pieces] == [0] * len(pieces)
    assert ["id" in piece and "name" in piece["function"] for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert "".join(piece["function"]["arguments"] for piece in pieces) == made["function"]["arguments"]
    assert deltas[-1]["finish_reason"] == "tool_calls" and len(pieces) > 2


def test_tools_that_are_not_to_be_called_are_not_in_the_prompt(client: TestClient):
    assert post(client, tools=[TOOL], tool_choice="none")["choices"] == post(client)["choices"]
    longer = post(client, tools=[TOOL], max_tokens=1)["usage"]["prompt_tokens"]
    assert longer > post(client)["usage"]["prompt_tokens"] + 50


def test_free_text_stays_text_where_tools_may_be_called(client: TestClient):
    for seed in range(3):
        message, reason = structured(client, tools=[TOOL], seed=seed, max_tokens=12)
        assert reason in ("stop", "length", "tool_calls") and message["content"] is not None


def test_results_are_fed_back(client: TestClient, tiny: LanguageModel):
    said = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sun<|im_end|>"}]},
    ]
    used = post(client, messages=said, max_tokens=1)["usage"]["prompt_tokens"]
    function = {"name": "weather", "arguments": json.loads(ARGUMENTS)}
    plain = [
        *HELLO,
        {"role": "assistant", "tool_calls": [{"function": function}]},
        {"role": "tool", "content": "sun<|im_end|>"},
    ]
    ids = tiny.tokenizer.encode_chat(plain)
    assert used == len(ids)
    assert f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}' in tiny.tokenizer.decode(ids)
    assert sum(i in tiny.tokenizer.special_ids for i in ids) == 1 + 2 * 3 + 1


def pieces_of(form: ChatFormat, texts: list[str], reason="stop", ids=None) -> tuple[list[dict], dict]:
    """(stream, whole) of an answer whose text comes in these pieces; `ids` are tokens by piece."""
    deltas = [Delta(text=text, token_ids=(ids or {}).get(n, ())) for n, text in enumerate(texts)]
    deltas.append(Delta(finish_reason=reason))
    return [entry for delta in deltas for entry in form.chunks(0, delta)], form.whole(1, deltas)


def test_parallel_calls(tiny: LanguageModel):
    form = ChatFormat(tiny, logprobs=False, style=STYLES["hermes"], names=frozenset({"f", "g"}))
    one, two = '{"name": "f", "arguments": {"a": 1}}', '{"name": "g", "arguments": {}}'
    text = f"Two.\n<tool_call>{one}</tool_call>\n<tool_call>{two}</tool_call>"
    chunks, whole = pieces_of(form, list(text))
    pieces = [piece for c in chunks for piece in c["delta"].get("tool_calls", [])]
    assert [piece["index"] for piece in pieces] == sorted(piece["index"] for piece in pieces)
    assert [piece["function"]["name"] for piece in pieces if "id" in piece] == ["f", "g"]
    assert len({piece["id"] for piece in pieces if "id" in piece}) == 2
    made = [one["function"] for one in whole["message"]["tool_calls"]]
    assert made == [{"name": "f", "arguments": '{"a": 1}'}, {"name": "g", "arguments": "{}"}]
    assert whole["message"]["content"] == "Two." == "".join(c["delta"].get("content", "") for c in chunks)


def test_a_cut_off_call_ends_for_its_length(tiny: LanguageModel):
    form = ChatFormat(tiny, logprobs=False, style=STYLES["hermes"], names=frozenset({"f"}))
    chunks, whole = pieces_of(form, ['I see.\n<tool_call>{"name": "f", "argum', 'ents": {"a": 1'], "length")
    assert whole["finish_reason"] == chunks[-1]["finish_reason"] == "length"
    assert whole["message"]["content"] == "I see."
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1'


def test_marks_that_are_special_tokens(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    """Mistral's mark gives no text: the token tells."""
    style, special = STYLES["mistral"], min(tiny.tokenizer.special_ids)
    spelt = {special: "[TOOL_CALLS]"}
    monkeypatch.setattr(type(tiny.tokenizer), "token_text", lambda self, index: spelt.get(index, ""))
    form = ChatFormat(tiny, logprobs=False, style=style, names=frozenset({"f"}))
    chunks, whole = pieces_of(form, ["", ' [{"name": "f", "arguments": {}}]'], ids={0: (special,)})
    assert whole["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert len(whole["message"]["tool_calls"][0]["id"]) == 9 and whole["finish_reason"] == "tool_calls"
    assert next(piece for c in chunks for piece in c["delta"].get("tool_calls", []))["function"]["name"] == "f"


def test_log_probabilities_beside_calls(client: TestClient):
    body = {"tools": [OTHER], "tool_choice": "required", "logprobs": True, "max_tokens": 60, "temperature": 1.0}
    whole = post(client, **body)["choices"][0]
    deltas = stream_of(client, **body)
    entries = [entry for d in deltas if d["logprobs"] for entry in d["logprobs"]["content"]]
    assert [e["token"] for e in entries] == [e["token"] for e in whole["logprobs"]["content"]]


def test_a_template_without_tools(client: TestClient, tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    assert tiny.tokenizer.chat_template is not None
    monkeypatch.setitem(tiny.tokenizer.chat_template.__dict__, "tool_style", None)
    assert post(client, 400, tools=[TOOL])["error"]["code"] == "unsupported_parameter"
    said = [*HELLO, {"role": "tool", "tool_call_id": "1", "content": "x"}]
    assert post(client, 400, messages=said)["error"]["param"] == "messages.1"
    assert post(client, tools=[TOOL], tool_choice="none")["choices"]


def test_a_bomb_is_an_error_before_the_stream(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    from bloomery.engine import constraint

    monkeypatch.setattr(constraint, "MAX_COMPILE_SECONDS", 1)
    bomb = {"allOf": [{"type": "string", "pattern": f".*a.{{{i}}}b"} for i in range(2, 20)]}
    form = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": bomb}}
    error = post(client, 400, response_format=form, stream=True)["error"]
    assert "longer than 1 seconds" in error["message"] and error["param"] == "response_format"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "f", "object", "string", "json_schema", "function"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["type", "function", "name", "parameters", "schema", "json_schema", "properties", "strict", "anyOf"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
NEAR = st.one_of(
    st.builds(lambda schema: {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}, JSON),
    st.builds(lambda schema: {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}, JSON),
    st.builds(lambda schema: {"guided_json": schema}, JSON),
    st.builds(lambda text: {"guided_regex": text}, st.text(max_size=8)),
    st.builds(lambda text: {"guided_grammar": f"start: {text}"}, st.text(max_size=8)),
    st.builds(lambda value: {"messages": [{"role": "assistant", "tool_calls": value}]}, JSON),
    st.dictionaries(
        st.sampled_from(["tools", "tool_choice", "response_format", "structured_outputs"]), JSON, max_size=2
    ),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=NEAR, choice=st.sampled_from([{}, {"tool_choice": "required"}, {"tool_choice": "none"}]))
def test_no_body_breaks_the_server(client: TestClient, body: dict, choice: dict):
    answer = client.post(ROUTE, json={"model": "tiny", "messages": HELLO, "max_tokens": 2, **choice, **body})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
