"""Large bodies: parsed and checked in a thread, with the same answers and the same errors as small ones."""

from __future__ import annotations

import json
import threading

import pytest
from fastapi.testclient import TestClient

from bloomery.engine import LanguageModel
from bloomery.server import ServeConfig, build_app, large_bodies

PAD = {"metadata": {"pad": "x" * (large_bodies.LARGE_BYTES + 1)}}  # a label, which changes nothing


@pytest.mark.parametrize(
    "body",
    [{"prompt": "Once"}, {"prompt": "Once", "max_tokens": -1}, {"prompt": "Once", "n": "x"}, {"prompt": [1, -1]}, {}],
    ids=str,
)
def test_size_changes_nothing(client: TestClient, body: dict):
    asked = {"model": "tiny", "max_tokens": 3, "seed": 1, **body}
    small, large = (client.post("/v1/completions", json=asked | more) for more in ({}, PAD))
    assert small.status_code == large.status_code
    if small.status_code == 200:
        assert small.json()["choices"] == large.json()["choices"]
    else:
        assert small.json() == large.json() and small.json()["error"]["code"]


def test_what_is_no_json_is_said(client: TestClient):
    data = json.dumps({"model": "tiny", "prompt": "x" * large_bodies.LARGE_BYTES}).encode()[:-1]
    answer = client.post("/v1/completions", content=data, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_json"


def test_not_on_the_event_loop(tiny: LanguageModel, monkeypatch):
    read, threads = large_bodies._read, []
    monkeypatch.setattr(large_bodies, "_read", lambda *a: threads.append(threading.current_thread()) or read(*a))
    app = build_app(tiny, config=ServeConfig(api_key=""))
    with TestClient(app, base_url="http://localhost") as client:
        loop = client.portal.call(threading.current_thread)  # type: ignore[union-attr]
        assert client.post("/v1/completions", json={"model": "tiny", "prompt": "x", **PAD}).status_code == 200
        assert client.post("/v1/completions", json={"model": "tiny", "prompt": "x"}).status_code == 200
    assert len(threads) == 1 and threads[0] is not loop


@pytest.mark.parametrize(
    ("more", "aside"),
    [({}, False), ({"user": "x" * large_bodies.SMALL_BYTES}, True), ({"guided_regex": "[ab]+"}, True)],
    ids=["small", "larger", "a grammar"],
)
def test_small_bodies_are_read_on_the_event_loop_and_others_aside(tiny: LanguageModel, monkeypatch, more, aside: bool):
    plain, threads = LanguageModel.encode_prompt, []
    monkeypatch.setattr(
        LanguageModel, "encode_prompt", lambda *a, **k: threads.append(threading.current_thread()) or plain(*a, **k)
    )
    with TestClient(build_app(tiny, config=ServeConfig(api_key="")), base_url="http://localhost") as client:
        loop = client.portal.call(threading.current_thread)  # type: ignore[union-attr]
        answer = client.post("/v1/completions", json={"model": "tiny", "prompt": "x", "max_tokens": 2, **more})
    assert answer.status_code == 200, answer.text
    assert [thread is loop for thread in threads] == [not aside]
