"""Guard: hosts, origins, keys, content types, sizes and depth; nothing reaches a route that should not."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from bloomery.engine import LanguageModel
from bloomery.server import ServeConfig, build_app
from bloomery.server.guard import json_depth

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

    assert json_depth(json.dumps(value).encode(), 1_000) == depth(value)


def test_a_string_of_megabytes_is_scanned_quickly():
    assert json_depth(b'["' + b'\\"[' * 2_000_000 + b'"]', 32) == 1
