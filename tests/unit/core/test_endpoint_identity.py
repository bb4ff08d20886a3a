"""What a server tells of its model tells whether it is still the same."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bloomery.core.endpoint import Endpoint, EndpointConfig
from bloomery.core.endpoint_identity import identity_at, lasting


@contextmanager
def server(models: Any) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps(models).encode()
            self.send_response(200 if self.path == "/v1/models" else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1"
    finally:
        running.shutdown()
        running.server_close()


def told(url: str, model: str = "m"):
    with Endpoint(EndpointConfig(url=url, model=model)) as endpoint:
        return identity_at(endpoint)


def test_another_model_behind_the_name_is_noticed():
    row = {"id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "library"}
    with server({"data": [{"id": "other"}, row]}) as url:
        one, again = told(url), told(url)
        row["created"] += 86_400
        other = told(url)
    assert one == again and one.text.startswith(f"m@{url[7:-3]} ") and other.text != one.text
    assert "as long as the server tells the same of it (created, owned_by)" in one.told()


def test_a_clock_tells_nothing():
    # vLLM and llama.cpp say "created": now at every look, and vLLM permissions with ids of their own.
    row = {"id": "m", "created": int(time.time()), "owned_by": "vllm", "root": "/models/a", "permission": [{"id": "1"}]}
    with server({"data": [row]}) as url:
        one = told(url)
        row.update(created=int(time.time()) + 3, permission=[{"id": "2"}])
        assert told(url) == one
        row["root"] = "/models/b"
        assert told(url).text != one.text
    assert one.fields == "owned_by, root"


def test_a_server_that_tells_no_more_than_a_name_or_nothing():
    with server({"data": [{"id": "m", "object": "model"}]}) as url:
        bare = told(url)
    assert bare.text == bare.name == f"m@{url[7:-3]}" and "until --fresh" in bare.told()
    gone = told(url)
    assert gone.text == bare.text and gone.problem and gone.problem in gone.told()
    for nonsense in ([], {"data": "x"}, {"data": [1]}, {}):
        with server(nonsense) as url:
            assert told(url).fields == ""


def test_an_entry_that_is_too_long_is_none():
    assert lasting({"id": "m", "meta": {"n": 1}, "x": None}, 0.0) == {"meta": {"n": 1}}
    assert lasting({"id": "m", "meta": "y" * 100_000}, 0.0) == {}
