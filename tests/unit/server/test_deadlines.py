"""Deadlines and turns over HTTP: what time cuts says so, what never began is an error; keys get their places back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from openai.types.chat import ChatCompletion
from openai.types.responses import Response as OpenAIResponse

from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.server import ServeConfig, build_app
from bloomery.server.allowance import Limits
from bloomery.server.keys import add_key

HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def slow(tiny: LanguageModel, monkeypatch) -> LanguageModel:
    """Twenty steps a second."""
    step = tiny.engine._step

    def slowly(told):
        time.sleep(0.05)
        step(told)

    monkeypatch.setattr(tiny.engine, "_step", slowly)
    return tiny


def endless(model: LanguageModel) -> dict:
    """A body of a text that does not end by itself."""
    return {"max_tokens": 200, "logit_bias": {str(i): -100 for i in model.tokenizer.eos_ids}, "seed": 1}


def test_time_cuts_an_answer_which_says_so(client: TestClient, slow: LanguageModel, workspace: Workspace):
    began = time.perf_counter()
    answer = client.post("/v1/chat/completions", json={**HELLO, **endless(slow), "timeout_seconds": 2.0})
    assert answer.status_code == 200 and 1.9 < time.perf_counter() - began < 9  # to its end it would take ten
    choice = answer.json()["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", "deadline")
    assert choice["message"]["content"] and 0 < answer.json()["usage"]["completion_tokens"] < 60
    ChatCompletion.model_validate(answer.json(), strict=False)  # a reason that clients know
    assert [row["status"] for row in workspace.ledger.requests()] == [200]


def test_a_stream_that_time_cuts_ends_in_order(client: TestClient, slow: LanguageModel):
    body = {"model": "tiny", "prompt": "Once", **endless(slow), "timeout_seconds": 2.0, "stream": True}
    *events, done, _ = client.post("/v1/completions", json=body).text.split("\n\n")
    assert done == "data: [DONE]"
    last = json.loads(events[-1].removeprefix("data: "))["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("length", "deadline")


def test_responses_that_time_cuts_are_incomplete(client: TestClient, slow: LanguageModel):
    body = {"model": "tiny", "input": "Hello", "max_output_tokens": 200, "seed": 1, "timeout_seconds": 2.0}
    answer = client.post("/v1/responses", json=body).json()
    parsed = OpenAIResponse.model_validate(answer, strict=False)
    if parsed.status == "incomplete":
        assert answer["incomplete_details"] == {"reason": "max_output_tokens", "cut_by": "deadline"}


@pytest.mark.parametrize("route", ["/v1/completions", "/v1/chat/completions", "/v1/responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_in_time_is_an_error(client: TestClient, slow: LanguageModel, route: str, stream: bool):
    asked = {"/v1/completions": {"prompt": "x"}, "/v1/responses": {"input": "x"}}.get(route, HELLO)
    answer = client.post(route, json={"model": "tiny", **asked, "timeout_seconds": 0.001, "stream": stream})
    if stream:
        last = [line for line in answer.text.splitlines() if line.startswith("data: ")][-1]
        error = json.loads(last.removeprefix("data: "))["error"]
    else:
        assert answer.status_code == 504 and answer.headers["x-should-retry"] == "false"
        error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("deadline_exceeded", "timeout_seconds", "server_error")


def test_embeddings_too(both: TestClient, minilm: TextEncoder, workspace: Workspace):
    body = {"model": "minilm", "input": ["iron"] * 8, "timeout_seconds": 1e-6}
    answer = both.post("/v1/embeddings", json=body)
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline_exceeded"
    assert both.post("/v1/embeddings", json=body | {"timeout_seconds": 60}).status_code == 200
    assert [row["status"] for row in workspace.ledger.requests()] == [200, 504]


@pytest.mark.parametrize("value", [0, -1, 86_401, "x", None])
def test_bounds(client: TestClient, value):
    answer = client.post("/v1/chat/completions", json={**HELLO, "max_tokens": 1, "timeout_seconds": value})
    assert answer.status_code == (200 if value is None else 400)
    if value is not None:
        assert answer.json()["error"]["param"] == "timeout_seconds"


def test_the_servers_own_bound_counts_for_everybody(slow: LanguageModel):
    app = build_app(slow, config=ServeConfig(api_key="", max_request_seconds=2.0))
    with TestClient(app, base_url="http://localhost") as client:
        for more in ({}, {"timeout_seconds": 60}):
            answer = client.post("/v1/chat/completions", json={**HELLO, **endless(slow), **more}).json()
            assert answer["choices"][0]["stop_reason"] == "deadline"


@pytest.fixture
def keyed(tiny: LanguageModel, tmp_path) -> Iterator[tuple[TestClient, dict[str, dict[str, str]]]]:
    path = tmp_path / "keys.toml"
    keys = {
        "single": add_key(path, "single", limits=Limits(concurrent_requests=1)),
        "frugal": add_key(path, "frugal", limits=Limits(tokens_per_minute=100)),
        "few": add_key(path, "few"),
    }
    config = ServeConfig(api_key="", keys=str(path), max_running=1, max_waiting=8)
    with TestClient(build_app(tiny, config=config), base_url="http://localhost") as client:
        yield client, {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}


@pytest.mark.parametrize("route", ["/v1/completions", "/v1/responses"])
def test_the_place_is_free_before_the_end_is_read(keyed, route: str):
    client, headers = keyed
    last = "[DONE]" if route == "/v1/completions" else "response.completed"
    body = {"model": "tiny", "stream": True} | ({"prompt": "x"} if "comp" in route else {"input": "x"})
    for seed in range(10):
        with client.stream("POST", route, json=body | {"seed": seed}, headers=headers["single"]) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if last in line:  # the end of the answer is not read yet
                    assert client.get("/v1/models", headers=headers["single"]).status_code == 200
    whole = client.post(route, json=body | {"stream": False}, headers=headers["single"])
    assert whole.status_code == 200
    assert client.get("/v1/models", headers=headers["single"]).status_code == 200


def test_tokens_are_set_aside_while_a_request_runs_and_settled_after(keyed, tiny: LanguageModel, monkeypatch):
    client, headers = keyed
    inner, run_all = [], tiny.engine.run_all

    def watched(*args, **options):
        inner.append(client.get("/v1/models", headers=headers["frugal"]).headers["x-ratelimit-remaining-tokens"])
        return run_all(*args, **options)

    monkeypatch.setattr(tiny.engine, "run_all", watched)
    body = {"model": "tiny", "prompt": [5] * 10, "max_tokens": 30, "n": 2, "temperature": 2, "stop": ["e", "a", " "]}
    answer = client.post("/v1/completions", json=body, headers=headers["frugal"])
    used = answer.json()["usage"]["total_tokens"]
    assert 28 <= int(inner[0]) <= 60  # 100 - (10 + 2 * 30), and what a busy moment has filled
    left = int(answer.headers["x-ratelimit-remaining-tokens"])
    assert 100 - used <= left
    # What would overdraw is refused before it runs.
    tiny_left = body | {"max_tokens": 1000}
    refused = client.post("/v1/completions", json=tiny_left, headers=headers["frugal"])
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_a_key_that_fills_the_room_leaves_others_their_turn(keyed, tiny: LanguageModel, monkeypatch):
    client, headers = keyed
    go, order, run_all = threading.Event(), [], tiny.engine.run_all

    def held(requests):
        order.append(requests[0].tenant)
        go.wait(20)
        return run_all(requests)

    monkeypatch.setattr(tiny.engine, "run_all", held)
    body = {"model": "tiny", "prompt": "x", "max_tokens": 1}
    found: list[int] = []

    def ask(name: str) -> None:
        found.append(client.post("/v1/completions", json=body, headers=headers[name]).status_code)

    room = client.app.state.service.room  # type: ignore[attr-defined]
    threads = [threading.Thread(target=ask, args=(name,)) for name in ["frugal"] * 3 + ["few"]]
    for number, thread in enumerate(threads):
        thread.start()
        while room.running + room.waiting <= number or not order:
            time.sleep(0.01)
    # One runs and two wait, which is a quarter of eight: the fourth of the same key is refused.
    answer = client.post("/v1/completions", json=body, headers=headers["frugal"])
    assert answer.status_code == 429 and answer.json()["error"]["code"] == "server_busy"
    go.set()
    for thread in threads:
        thread.join()
    assert found == [200] * 4 and order == ["frugal", "frugal", "few", "frugal"]


@pytest.mark.parametrize("stream", [False, True])
def test_time_is_over_in_the_middle_of_scoring_a_prompt(client: TestClient, slow: LanguageModel, stream: bool):
    """Of two prompts one is scored and the other only in part: each choice tells what there is."""
    prompts = [[5] * 20, [7] * 250]
    body = {"model": "tiny", "prompt": prompts, "max_tokens": 4, "echo": True, "logprobs": 1, "stream": stream}
    for seconds in (0.03, 0.08, 0.13, 0.18):
        answer = client.post("/v1/completions", json=body | {"timeout_seconds": seconds})
        assert answer.status_code in (200, 504) and "internal_error" not in answer.text
        if not stream and answer.status_code == 200:
            for choice in answer.json()["choices"]:
                lengths = {len(values) for values in choice["logprobs"].values()}
                assert len(lengths) == 1 and choice["finish_reason"] in ("length", "stop")
