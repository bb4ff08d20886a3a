"""The application: models, health, metrics, ledger, errors in one form on every route, a bounded waiting room."""

from __future__ import annotations

import json
import math

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel
from bloomery.server import ServeConfig, build_app

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

VLLM_NAMES = (
    "num_requests_running",
    "num_requests_waiting",
    "generation_tokens",
    "request_success",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
)


def assert_error(answer, status: int | None = None) -> dict:
    assert status is None or answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    return body["error"]


def test_models(client: TestClient):
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list" and [m["id"] for m in listed["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json() == listed["data"][0]
    assert assert_error(client.get("/v1/models/org/other"), 404)["code"] == "model_not_found"


def test_half_characters_are_an_error_and_never_a_crash(client: TestClient):
    headers = {"content-type": "application/json"}
    model = b'{"model":"\\ud800","prompt":"x"}'
    assert_error(client.post(COMPLETIONS, content=model, headers=headers), 404)
    chat = b'{"model":"tiny","messages":[{"role":"user","content":"\\ud800"}]}'
    assert_error(client.post(CHAT, content=chat, headers=headers), 400)


def test_a_wrong_model_is_404(client: TestClient):
    for route in (CHAT, COMPLETIONS):
        body = {"model": "tinny", "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
        error = assert_error(client.post(route, json=body), 404)
        assert error["code"] == "model_not_found" and "tiny" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/docs", 404), ("GET", "/v1/nothing", 404), ("POST", "/v1/models", 405),
     ("GET", CHAT, 405), ("DELETE", COMPLETIONS, 405), ("GET", "/v1/%ff%00", 404)],
)  # fmt: skip
def test_unknown_routes_and_methods(client: TestClient, method: str, path: str, status: int):
    assert_error(client.request(method, path), status)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"nonsense", b"[1]", b"null", b'"x"', b"\xff\xfe", b'{"model": "tiny"}', b'{"model": NaN}',
     b'{"model":"tiny","prompt":"x","temperature":NaN}', b'{"model":"tiny","prompt":"x","temperature":1e999}',
     b'{"model":"tiny","prompt":"\\ud800"}', b'{"\\ud800": 1}',
     b'{"model":"tiny","prompt":"x","\\ud800":1}', b'{"model":"tiny","prompt":[' + b"9" * 5000 + b"]}",
     b'{"model":"tiny","prompt":[]}', b'{"model":"tiny","prompt":[[]]}', b'{"model":"tiny","prompt":[1,"x"]}',
     b'{"model":"tiny","prompt":[true]}', b'{"model":"tiny","prompt":"x","max_tokens":"8"}',
     b'{"model":"tiny","prompt":"x","n":true}', b'{"model":"tiny","prompt":[99999999999999999999]}'],
)  # fmt: skip
def test_malformed_bodies(client: TestClient, data: bytes):
    assert_error(client.post(COMPLETIONS, content=data, headers={"content-type": "application/json"}), 400)


def test_energy_and_tokens_reach_the_ledger_and_the_metrics(client: TestClient, workspace: Workspace):
    body = {"model": "tiny", "prompt": "Once", "max_tokens": 5, "seed": 1}
    usage = client.post(COMPLETIONS, json=body).json()["usage"]
    (row,) = workspace.ledger.requests()
    assert (row["route"], row["model"], row["status"]) == (COMPLETIONS, "tiny", 200)
    assert (row["prompt_tokens"], row["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert row["energy_joules"] == usage["energy_joules"]
    families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").text)}
    (prompt,) = families["bloomery:prompt_tokens"].samples[:1]
    assert (prompt.name, prompt.value) == ("bloomery:prompt_tokens_total", usage["prompt_tokens"])
    assert {f"bloomery:{name}" for name in VLLM_NAMES} <= families.keys()
    known = usage["energy_joules"]["method"] != "unknown"
    assert families["bloomery:energy_joules" if known else "bloomery:energy_unknown"].samples


def test_an_internal_error_tells_no_details(client: TestClient, tiny: LanguageModel, monkeypatch, workspace, caplog):
    def broken(*args, **options):
        raise RuntimeError("secret path")

    monkeypatch.setattr(tiny.engine, "run_all", broken)
    body = {"model": "tiny", "prompt": "x"}
    error = assert_error(client.post(COMPLETIONS, json=body), 500)
    assert "secret" not in error["message"] and error["type"] == "server_error"
    assert "secret path" in caplog.text
    lines = client.post(COMPLETIONS, json=body | {"stream": True}).text.split("\n\n")
    assert json.loads(lines[-2].removeprefix("data: "))["error"]["type"] == "server_error"
    assert "[DONE]" not in lines[-1]
    assert [row["status"] for row in workspace.ledger.requests()] == [500, 500]


def test_a_full_room_answers_429(tiny: LanguageModel, monkeypatch):
    app = build_app(tiny, config=ServeConfig(api_key="", max_running=1, max_waiting=0, retry_after_seconds=7))
    with TestClient(app, base_url="http://localhost") as client:
        inner = []
        run_all = tiny.engine.run_all

        def slow(*args, **options):
            inner.append(client.post(COMPLETIONS, json={"model": "tiny", "prompt": "x"}))
            return run_all(*args, **options)

        monkeypatch.setattr(tiny.engine, "run_all", slow)
        assert client.post(COMPLETIONS, json={"model": "tiny", "prompt": "x"}).status_code == 200
        error = assert_error(inner[0], 429)
        assert error["code"] == "server_busy" and inner[0].headers["retry-after"] == "7"
        monkeypatch.setattr(tiny.engine, "run_all", run_all)
        for _ in range(3):  # every place was given back, errors included
            assert client.post(COMPLETIONS, json={"model": "tiny", "prompt": [10**6]}).status_code == 400
        assert client.post(COMPLETIONS, json={"model": "tiny", "prompt": "x", "stream": True}).status_code == 200
        assert client.post(COMPLETIONS, json={"model": "tiny", "prompt": "x"}).status_code == 200


def test_too_many_choices(client: TestClient):
    body = {"model": "tiny", "prompt": ["x"] * 100, "n": 2}
    assert assert_error(client.post(COMPLETIONS, json=body), 400)["param"] == "n"


def test_two_models_need_two_names(tiny: LanguageModel):
    for models in ([], [tiny, tiny]):
        with pytest.raises(ConfigError):
            build_app(models)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just("tiny")
)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=6), v, max_size=3))
NAMES = st.sampled_from(
    ["prompt", "messages", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "logprobs",
     "top_logprobs", "echo", "stream", "stream_options", "tools", "logit_bias", "user"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([CHAT, COMPLETIONS]), st.dictionaries(NAMES | st.text(max_size=6), VALUES, max_size=6))
def test_no_body_makes_a_server_error(client: TestClient, route: str, body: dict):
    base = {"model": "tiny", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}
    if route == CHAT:
        del base["prompt"]
    else:
        del base["messages"]
    data = json.dumps({**base, **body}, allow_nan=True).encode()
    answer = client.post(route, content=data, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert_error(answer)
    elif not body.get("stream"):
        tokens = answer.json()["usage"]["completion_tokens"]
        assert math.isfinite(tokens)
