"""The endpoint: vectors over HTTP, tried again where that can help, refused in one line where it cannot."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bloomery.core.endpoint import EndpointConfig
from bloomery.core.errors import DataError, RequestError
from bloomery.retrieve.embedding.endpoint import EmbeddingEndpoint, vectors_of

pytest.importorskip("httpx")


class Server(ThreadingHTTPServer):
    answers: list[tuple[int, object]]
    asked: list[dict]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append({"path": self.path, **body})
        status, answer = self.server.answers.pop(0) if self.server.answers else (200, None)
        if answer is None:
            data = [{"index": n, "embedding": [float(len(text)), 1.0]} for n, text in enumerate(body["input"])]
            answer = {"data": data[::-1]}
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.answers, made.asked = [], []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def endpoint(server: Server) -> EmbeddingEndpoint:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return EmbeddingEndpoint(EndpointConfig(url=url, model="m", first_wait_seconds=0.01, max_attempts=3))


def test_vectors_in_the_texts_order(server):
    asked = endpoint(server)
    texts = ["x" * (n % 9 + 1) for n in range(100)]
    vectors = asked.embed(texts)
    lengths = np.array([len(text) for text in texts], np.float32)
    np.testing.assert_allclose(vectors[:, 0] / vectors[:, 1], lengths, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert [len(one["input"]) for one in server.asked] == [64, 36] and server.asked[0]["path"] == "/v1/embeddings"
    asked.close()


def test_what_can_pass_is_tried_again(server):
    server.answers = [(503, {"error": {"message": "busy"}}), (200, b"{")]
    asked = endpoint(server)
    assert asked.embed(["iron"]).shape == (1, 2) and len(server.asked) == 3
    server.answers = [(429, {})] * 3
    with pytest.raises(RequestError, match=r"429.*3 attempts"):
        asked.embed(["iron"])
    asked.close()


def test_what_cannot_is_not(server):
    server.answers = [(401, {"error": {"message": "no key"}})]
    asked = endpoint(server)
    with pytest.raises(RequestError, match="no key"):
        asked.embed(["iron"])
    assert len(server.asked) == 1
    server.answers = [(200, {"data": [{"embedding": [1, None]}]})]
    with pytest.raises(RequestError, match="no vectors"):
        asked.embed(["iron"])
    asked.close()


@pytest.mark.parametrize(
    "answer",
    [None, {}, {"data": []}, {"data": [{"embedding": "!!"}]}, {"data": [{"embedding": [1, None]}]}, {"data": [3]}],
)
def test_no_vectors(answer):
    with pytest.raises(DataError):
        vectors_of(answer, 1)


def test_base64():
    told = base64.b64encode(np.array([1, 2], "<f4").tobytes()).decode()
    assert vectors_of({"data": [{"embedding": told}]}, 1)[0].tolist() == [1, 2]
