"""Our contract over a stand-in for vLLM: keys, limits, books, streams, errors, deadlines and who leaves."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient

from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.server import ServeConfig
from bloomery.server.allowance import Limits
from bloomery.server.keys import add_key
from bloomery.server.upstream_app import build_upstream_app
from bloomery.server.vllm_process import VllmProcess

FAKE = [sys.executable, str(Path(__file__).parents[2] / "fake_vllm.py")]
MODELS = [{"id": "m", "object": "model", "owned_by": "vllm", "max_model_len": 64}]


@pytest.fixture(scope="module")
def process() -> Iterator[VllmProcess]:
    process = VllmProcess(FAKE, "model", "m", watch_seconds=0.05)
    process.start()
    yield process
    process.stop()


class Counter:
    """A card that uses a thousand joules a second."""

    def read(self) -> Quantity:
        return Quantity.exact(time.perf_counter() * 1e3, "counter")

    def describe(self) -> dict:
        return {}

    def close(self) -> None: ...


@pytest.fixture
def client(process: VllmProcess, workspace: Workspace, tmp_path, monkeypatch) -> Iterator[TestClient]:
    monkeypatch.setattr(process, "meter", lambda: (Counter(), ""))
    path = tmp_path / "keys.toml"
    keys = {"alice": add_key(path, "alice", rights=("inspect",))}
    keys["frugal"] = add_key(path, "frugal", limits=Limits(tokens_per_minute=20))
    config = ServeConfig(api_key="", keys=str(path), store="content")
    app = build_upstream_app(process, MODELS, workspace=workspace, config=config)
    headers = {"authorization": f"Bearer {keys['alice']}"}
    with TestClient(app, base_url="http://localhost", headers=headers, raise_server_exceptions=False) as client:
        client.frugal = {"authorization": f"Bearer {keys['frugal']}"}  # type: ignore[attr-defined]
        yield client


def seen(process: VllmProcess) -> dict:
    asked = urllib.request.Request(f"{process.url}/seen", headers={"authorization": f"Bearer {process.key}"})
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)


def chat(text: str, **more) -> dict:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def events(client: TestClient, route: str, body: dict) -> list[dict]:
    answer = client.post(route, json=body | {"stream": True})
    assert answer.status_code == 200, answer.text
    *found, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(one.removeprefix("data: ")) for one in found]


def test_an_answer_and_its_books(client: TestClient, workspace: Workspace):
    answer = client.post("/v1/chat/completions", json=chat("iron and ore")).json()
    assert answer["choices"][0]["message"]["content"] == "iron and ore" and answer["id"].startswith("chatcmpl-")
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 3)
    assert usage["energy_joules"]["method"] == "counter" and usage["energy_joules"]["central"] > 0
    (row,) = workspace.ledger.requests()
    assert (row["id"], row["tenant"], row["status"], row["prompt_tokens"]) == (answer["id"], "alice", 200, 3)
    kept = client.get(f"/v1/requests/{answer['id']}").json()
    assert kept["answers"][0]["text"] == "iron and ore" and "iron and ore" in kept["prompts"][0]["text"]
    line = json.loads((workspace.root / "audit.jsonl").read_text().splitlines()[0])
    assert (line["key"], line["model"], line["completion_tokens"]) == ("alice", "m", 3)
    text = client.get("/metrics").text
    assert 'bloomery:generation_tokens_total{model_name="m"} 3.0' in text and "vllm:num_requests_running" in text


@pytest.mark.parametrize("include", [True, False])
def test_streams_go_through_with_usage_only_where_it_is_wanted(client: TestClient, process, include: bool):
    options = {"stream_options": {"include_usage": True}} if include else {}
    found = events(client, "/v1/chat/completions", chat("iron and ore", **options))
    text = "".join(c["delta"].get("content", "") for one in found for c in one["choices"])
    assert text.split() == ["iron", "and", "ore"] and len({one["id"] for one in found}) == 1
    assert (found[-1]["choices"] == []) == include
    if include:
        assert found[-1]["usage"]["energy_joules"]["central"] > 0 and all(one["usage"] is None for one in found[:-1])
    assert seen(process)["body"]["stream_options"]["include_usage"] is True


def test_what_goes_on_is_what_was_asked_and_nothing_of_ours(client: TestClient, process: VllmProcess):
    more = {"guided_choice": ["a", "b"], "timeout_seconds": 9, "priority": 3, "top_k": 4, "seed": None}
    assert client.post("/v1/completions", json={"model": "m", "prompt": "x y", **more}).status_code == 200
    body = seen(process)["body"]
    assert body == {"model": "m", "prompt": "x y", "structured_outputs": {"choice": ["a", "b"]}, "top_k": 4}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat("x", temperature=-1), "temperature"),
        (chat("x", nonsense=1), "nonsense"),
        (chat("x", typical_p=0.5), "typical_p"),
        (chat("x", inspect={}), "inspect"),
        (chat("x", tool_choice="required"), "tool_choice"),
        (
            {"model": "m", "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "http://169.254.169.254/x"}}]}]},
            "messages.0.content.0.image_url.url",
        ),
        ({"model": "none", "messages": [{"role": "user", "content": "x"}]}, "model"),
    ],
)  # fmt: skip
def test_we_refuse_by_name_before_vllm_sees_it(client: TestClient, body: dict, param: str):
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code in (400, 404) and answer.json()["error"]["param"] == param


def test_its_errors_are_ours(client: TestClient, workspace: Workspace):
    long = client.post("/v1/chat/completions", json=chat("toolong"))
    assert long.status_code == 400 and long.json()["error"]["code"] == "context_length_exceeded"
    old = client.post("/v1/completions", json={"model": "m", "prompt": "oldstyle"})
    assert old.status_code == 400 and old.json()["error"]["param"] == "top_k"
    boom = client.post("/v1/completions", json={"model": "m", "prompt": "boom"})
    assert boom.status_code == 502 and "secret" not in boom.text and boom.json()["error"]["type"] == "server_error"
    for word in ("midway", "short"):
        text = client.post("/v1/completions", json={"model": "m", "prompt": f"x {word}", "stream": True}).text
        last = json.loads(text.strip().splitlines()[-1].removeprefix("data: "))
        assert last["error"]["code"] in ("engine_error", "engine_unavailable") and "secret" not in text
    statuses = sorted(row["status"] for row in workspace.ledger.requests())
    assert statuses == [400, 400, 502, 502, 503]


def test_keys_and_their_tokens(client: TestClient):
    assert client.post("/v1/completions", json={}, headers={"authorization": "Bearer x"}).status_code == 401
    frugal = client.frugal  # type: ignore[attr-defined]
    body = {"model": "m", "prompt": "one two three", "max_tokens": 10}
    first = client.post("/v1/completions", json=body, headers=frugal)
    assert first.status_code == 200 and first.json()["usage"]["total_tokens"] == 6
    assert int(first.headers["x-ratelimit-remaining-tokens"]) >= 14  # 7 while it ran
    refused = client.post("/v1/completions", json=body | {"max_tokens": 17}, headers=frugal)
    assert refused.status_code == 429 and refused.json()["error"]["code"] == "rate_limit_exceeded"
    long = client.post("/v1/completions", json=body | {"prompt": "x " * 30}, headers=frugal)
    assert long.status_code == 400


def test_time_cuts_streams_and_refuses_whole_answers(client: TestClient):
    body = chat("slow " + "x " * 15, timeout_seconds=1.0)
    found = events(client, "/v1/chat/completions", body)
    last = found[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == ("length", "deadline") and 1 < len(found) < 17
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline_exceeded"


def test_embeddings_and_tokens(client: TestClient):
    answer = client.post("/v1/embeddings", json={"model": "m", "input": "a b"}).json()
    assert answer["data"][0]["embedding"] == [2.0] and answer["usage"]["energy_joules"]["method"] == "counter"
    picture = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
    for body in ({"messages": [{"role": "user", "content": [picture]}]}, {"prompt": "a", "chat_template": "{{ 1 }}"}):
        assert client.post("/tokenize", json=body).status_code == 400  # nothing is fetched or rendered there
    assert client.post("/tokenize", json={"prompt": "a b"}).json()["count"] == 2
    assert client.get("/v1/models/m").json() == MODELS[0] and client.get("/v1/models").json()["data"] == MODELS


def test_one_that_is_not_running_is_said(process: VllmProcess):
    stopped: Any = SimpleNamespace(
        url=process.url, key=process.key, alive=True, restarted=0, meter=lambda: (None, "no card")
    )
    app = build_upstream_app(stopped, MODELS, config=ServeConfig(api_key=""))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        assert client.get("/health").json() == {"status": "ok"}
        body = {"model": "m", "prompt": "x"}
        answer = client.post("/v1/completions", json=body)
        assert answer.json()["usage"]["energy_joules"]["method"] == "unknown"  # not zero
        stopped.alive = False
        assert client.get("/health").status_code == 503
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "engine_unavailable"
        assert answer.headers["retry-after"] == "1"


def test_who_leaves_stops_the_work_and_a_death_is_an_error(process: VllmProcess, workspace: Workspace):
    """Over sockets: vLLM stops when its connection closes."""
    config = ServeConfig(api_key="")
    service = build_upstream_app(process, MODELS, workspace=workspace, config=config)
    server = uvicorn.Server(uvicorn.Config(service, http="h11", log_config=None, lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            url, left = f"http://127.0.0.1:{listener.getsockname()[1]}", seen(process)["left"]
            body = chat("slow " + "x " * 15, stream=True)
            with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
                next(answer.iter_lines())
            until(lambda: seen(process)["left"] == left + 1)
            until(lambda: [row["status"] for row in workspace.ledger.requests()] == [499])
            died = httpx.post(f"{url}/v1/completions", json={"model": "m", "prompt": "die"}, timeout=60)
            assert died.status_code == 503 and died.json()["error"]["code"] == "engine_unavailable"
            until(lambda: process.restarted == 1 and process.alive)
            again = httpx.post(f"{url}/v1/completions", json={"model": "m", "prompt": "x"}, timeout=60)
            assert again.status_code == 200
        finally:
            server.should_exit = True
            thread.join(30)


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)
