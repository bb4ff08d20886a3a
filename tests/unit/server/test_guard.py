"""Guard: hosts, origins, keys, content types, sizes and depth; nothing reaches a route that should not."""

from __future__ import annotations

import json
import threading

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from bloomery.engine import LanguageModel
from bloomery.server import ServeConfig, build_app
from bloomery.server.allowance import Limits
from bloomery.server.guard import json_depth
from bloomery.server.keys import add_key

BODY = {"model": "tiny", "prompt": "x", "max_tokens": 1}


@pytest.fixture(scope="module")
def locked(tiny: LanguageModel):
    app = build_app(tiny, config=ServeConfig(host="0.0.0.0", api_key="sesame-öffne"[:6] + "X"))
    with TestClient(app, base_url="http://models.example") as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil", "[::2]", "10.0.0.1"])
def test_other_hosts_are_refused(client: TestClient, host: str):
    answer = client.get("/v1/models", headers={"host": host})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_loopback_names_are_answered(client: TestClient, host: str):
    assert client.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost.evil.example", "file://"])
def test_pages_of_other_sites_are_refused(client: TestClient, origin: str):
    answer = client.post("/v1/completions", json=BODY, headers={"origin": origin})
    assert answer.status_code == 403
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_page_of_this_machine_may_ask(client: TestClient):
    headers = {"origin": "http://localhost:5173"}
    assert client.post("/v1/completions", json=BODY, headers=headers).status_code == 200


WRONG_KEYS = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    "Bearer sesame",
    "Bearer sesameX2",
    "sesameX",
    "Basic sesameX",
    "bearer SESAMEX",
    "Bearer s\xe9same",
]


@pytest.mark.parametrize("key", WRONG_KEYS)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("GET", "/v1/models/tiny"), ("POST", "/v1/completions"), ("POST", "/v1/chat/completions"),
     ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/nowhere"), ("GET", "//health"), ("GET", "/health/")],
)  # fmt: skip
def test_every_route_refuses_a_wrong_key(locked: TestClient, method: str, path: str, key: str | None):
    headers = {} if key is None else {"authorization": key.encode("latin-1")}
    answer = locked.request(method, path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_the_key_opens_and_health_needs_none(locked: TestClient):
    assert locked.get("/health").json() == {"status": "ok"}
    for scheme in ("Bearer", "bearer"):
        headers = {"authorization": f"{scheme} sesameX"}
        assert locked.get("/v1/models", headers=headers).status_code == 200
    assert locked.post("/v1/completions", json=BODY, headers={"authorization": "Bearer sesameX"}).status_code == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_other_content_types_are_415(client: TestClient, kind: str):
    data = json.dumps(BODY).encode()
    answer = client.post("/v1/completions", content=data, headers={"content-type": kind})
    assert answer.status_code == 415 and "error" in answer.json()
    assert client.post("/v1/completions", content=data, headers={"content-type": "Application/JSON; charset=utf-8"})


def test_large_bodies_are_413_declared_or_not(client: TestClient):
    data = json.dumps(BODY | {"prompt": "x" * 200_000}).encode()
    headers = {"content-type": "application/json"}
    assert client.post("/v1/completions", content=data, headers=headers).status_code == 413
    pieces = (data[i : i + 1000] for i in range(0, len(data), 1000))
    answer = client.post("/v1/completions", content=pieces, headers=headers)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"


def test_deep_json_is_refused_before_it_is_parsed(client: TestClient):
    headers = {"content-type": "application/json"}
    for data in (b"[" * 50_000, b'{"a":' * 20_000, b'{"model":"tiny","prompt":' + b"[" * 40 + b"]" * 40 + b"}"):
        answer = client.post("/v1/completions", content=data, headers=headers)
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "json_too_deep"


@given(st.recursive(st.text('[]{}"\\a', max_size=5), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v)))
def test_depth_counts_brackets_outside_strings(value):
    def depth(item) -> int:
        if isinstance(item, (list, dict)):
            return 1 + max(map(depth, item.values() if isinstance(item, dict) else item), default=0)
        return 0

    assert json_depth(json.dumps(value).encode()) == depth(value)


def test_a_string_of_megabytes_is_scanned_quickly():
    assert json_depth(b'["' + b'\\"[' * 2_000_000 + b'"]') == 1


def test_two_authorization_headers_are_nobody(locked: TestClient):
    right = ("authorization", "Bearer sesameX")
    for headers in ([right, right], [right, ("authorization", "Bearer wrong")], [("x-api-key", "sesameX")]):
        assert locked.get("/v1/models", headers=headers).status_code == 401


@pytest.fixture
def keyed(tiny: LanguageModel, tmp_path):
    """(a client without a key, the path of the keys)"""
    path = tmp_path / "keys.toml"
    add_key(path, "first")
    keys = {
        "slow": add_key(path, "slow", limits=Limits(requests_per_minute=2)),
        "frugal": add_key(path, "frugal", limits=Limits(tokens_per_minute=20)),
        "single": add_key(path, "single", limits=Limits(concurrent_requests=1)),
    }
    app = build_app(tiny, config=ServeConfig(api_key="", keys=str(path)))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client, {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}


def test_requests_a_minute(keyed):
    client, headers = keyed
    for remaining in ("1", "0"):
        answer = client.get("/v1/models", headers=headers["slow"])
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == remaining
    refused = client.post("/v1/completions", json=BODY, headers=headers["slow"])
    assert refused.status_code == 429 and refused.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert client.get("/v1/models", headers=headers["single"]).status_code == 200  # others are not held up
    assert "x-ratelimit-limit-requests" not in client.get("/v1/models", headers=headers["frugal"]).headers


def test_tokens_a_minute(keyed):
    client, headers = keyed
    body = BODY | {"prompt": [5] * 10, "max_tokens": 10, "seed": 1, "temperature": 0}
    first = client.post("/v1/completions", json=body, headers=headers["frugal"])
    assert first.status_code == 200
    spent = first.json()["usage"]["total_tokens"]
    second = client.post("/v1/completions", json=body, headers=headers["frugal"])
    assert second.status_code == 429 and int(second.headers["retry-after"]) >= 1
    assert int(second.headers["x-ratelimit-remaining-tokens"]) <= 20 - spent + 1
    large = client.post("/v1/completions", json=body | {"prompt": [5] * 21}, headers=headers["frugal"])
    assert large.status_code in (400, 429)


def test_requests_at_once(keyed, tiny: LanguageModel, monkeypatch):
    client, headers = keyed
    inner, run_all = [], tiny.engine.run_all

    def slow(*args, **options):
        inner.append(client.get("/v1/models", headers=headers["single"]))
        inner.append(client.get("/v1/models", headers=headers["frugal"]))
        return run_all(*args, **options)

    monkeypatch.setattr(tiny.engine, "run_all", slow)
    assert client.post("/v1/completions", json=BODY, headers=headers["single"]).status_code == 200
    assert [answer.status_code for answer in inner] == [429, 200]
    assert client.get("/v1/models", headers=headers["single"]).status_code == 200


def test_a_draining_server_lets_nobody_in(tiny: LanguageModel):
    app = build_app(tiny, config=ServeConfig(api_key="sesameX", retry_after_seconds=3))
    with TestClient(app, base_url="http://localhost") as client:
        headers = {"authorization": "Bearer sesameX"}
        app.state.service.drain.begin()
        assert client.get("/health").json() == {"status": "draining"} and client.get("/health").status_code == 503
        answer = client.post("/v1/completions", json=BODY, headers=headers)
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "shutting_down"
        assert answer.headers["retry-after"] == "3" and answer.headers["connection"] == "close"
        assert client.post("/v1/completions", json=BODY).status_code == 401  # strangers learn nothing
        assert client.get("/metrics", headers=headers).status_code == 200
        assert app.state.service.drain.inside == 0


def test_clients_that_are_still_sending_read_why_they_are_refused(tiny: LanguageModel):
    """Over a socket: a body that is refused early would else end in a broken pipe."""
    import socket

    import httpx
    import uvicorn

    app = build_app(tiny, config=ServeConfig(api_key="sesameX", max_body_bytes=100_000))
    server = uvicorn.Server(uvicorn.Config(app, http="h11", log_config=None, lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/completions"
            data = json.dumps(BODY | {"prompt": "x" * 20_000_000}).encode()
            for key, status in (("sesameX", 413), ("wrong", 401)):
                headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
                for content in (data, (data[i : i + 65_536] for i in range(0, len(data), 65_536))):
                    answer = httpx.post(url, content=content, headers=headers, timeout=60)
                    assert answer.status_code == status and answer.json()["error"]["code"]
        finally:
            server.should_exit = True
            thread.join(30)
