"""An endpoint that misbehaves in every way that the wire allows: what is tried again, what is not, and what is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.endpoint import (
    UNREACHABLE,
    Endpoint,
    EndpointConfig,
    message_of,
    read_key,
    request_body,
    retry_after,
)
from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.messages import ChatAnswer, ChatOptions

ASK = [{"role": "user", "content": "Say hello"}]
KEY = "sk-very-secret-0123456789"


def chunk(content: str = "", *, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason, **more}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"
GOOD = [chunk("Hel"), chunk("lo"), chunk(reason="stop"), USAGE, DONE]
Play = Callable[[BaseHTTPRequestHandler], None]


def says(*parts: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Play:
    def play(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("connection", "close")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(part)
            handler.wfile.flush()

    return play


def refuses(status: int, message: str = "no", headers: dict[str, str] | None = None, code: str | None = None) -> Play:
    body = {"error": {"message": message, "code": code}}
    return says(json.dumps(body).encode(), status=status, headers=headers)


def hangs_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def breaks_off(handler: BaseHTTPRequestHandler) -> None:
    """Says how long the answer is, and then ends before."""
    handler.send_response(200)
    handler.send_header("content-length", "100000")
    handler.end_headers()
    handler.wfile.write(chunk("Hel"))
    handler.wfile.flush()
    handler.connection.close()


def is_silent(handler: BaseHTTPRequestHandler) -> None:
    says(chunk("Hel"))(handler)
    time.sleep(0.5)


class Fake:
    """Plays one answer after the other; the last one again and again."""

    def __init__(self) -> None:
        self.plays: list[Play] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with fake.lock:
                    play = fake.plays[min(len(fake.bodies), len(fake.plays) - 1)]
                    fake.bodies.append(body)
                    fake.keys.append(self.headers.get("authorization"))
                assert self.path == "/v1/chat/completions"
                play(self)

            def log_message(self, *_: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def ask(self, *plays: Play, options: ChatOptions | None = None, **config: Any) -> ChatAnswer:
        self.plays, self.bodies, self.keys = list(plays), [], []
        with self.open(**config) as endpoint:
            return endpoint.answer(ASK, options or ChatOptions())

    def open(self, **config: Any) -> Endpoint:
        given = {"first_wait_seconds": 0.001, "max_wait_seconds": 0.01, "max_attempts": 3, **config}
        return Endpoint(EndpointConfig(url=self.url, model="m", **given))


@pytest.fixture(scope="module")
def fake() -> Iterator[Fake]:
    made = Fake()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLOOMERY_ENDPOINT_KEY", raising=False)


def test_a_good_answer(fake: Fake):
    found = fake.ask(says(*GOOD))
    assert (found.text, found.finish_reason, found.attempts) == ("Hello", "stop", 1)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (5, 2)
    assert not found.usage.energy_joules.known and found.tokens is None
    assert fake.keys == [None] and fake.bodies[0]["messages"] == ASK and fake.bodies[0]["stream"] is True


@pytest.mark.parametrize(
    "trouble",
    [
        refuses(429),
        refuses(429, headers={"retry-after": "0.001"}),
        refuses(500),
        refuses(503),
        says(b"<html>Bad gateway</html>", status=502),
        hangs_up,
        breaks_off,
        says(),
        says(chunk("Hel")),
        says(chunk("Hel"), DONE),
        says(chunk("Hel"), b"data: {not json\n\n"),
        says(b'data: {"choices": 5}\n\n'),
        says(b'data: {"choices": [{"delta": {"content": 5}}]}\n\n'),
        says(chunk("Hel"), b'data: {"error": {"message": "overloaded", "code": 503}}\n\n'),
    ],
    ids=str,
)
def test_what_may_pass_is_asked_again_from_the_start(fake: Fake, trouble: Play):
    found = fake.ask(trouble, says(*GOOD))
    assert found.text == "Hello" and found.attempts == 2
    assert fake.bodies[0] == fake.bodies[1]


@pytest.mark.parametrize(
    "trouble, code, said",
    [
        (refuses(429, "slow down"), "rate_limited", r"refuses \(429\): slow down \(3 attempts\)"),
        (refuses(500), "http_500", r"refuses \(500\): no"),
        (says(chunk("Hel")), "interrupted", "ended an answer in the middle"),
        (says(b"data: nonsense\n\n"), "interrupted", "sent no JSON: 'nonsense'"),
    ],
)
def test_after_the_last_attempt_the_error_says_what_was(fake: Fake, trouble: Play, code: str, said: str):
    with pytest.raises(RequestError, match=said) as caught:
        fake.ask(trouble)
    assert caught.value.code == code and len(fake.bodies) == 3
    assert "\n" not in caught.value.one_line()


@pytest.mark.parametrize(
    "trouble, code, status",
    [
        (refuses(400, "too long", code="context_length_exceeded"), "context_length_exceeded", 400),
        (refuses(401), "invalid_api_key", 401),
        (refuses(404), "http_404", 404),
        (refuses(429, "no money", code="insufficient_quota"), "insufficient_quota", 429),
        (says(status=302, headers={"location": "http://127.0.0.1:1/"}), "http_302", 302),
    ],
)
def test_what_does_not_pass_is_not_asked_again(fake: Fake, trouble: Play, code: str, status: int):
    with pytest.raises(RequestError) as caught:
        fake.ask(trouble)
    assert (caught.value.code, caught.value.status, len(fake.bodies)) == (code, status, 1)


def test_silence_and_slowness_end(fake: Fake):
    with pytest.raises(RequestError, match="read timed out") as caught:
        fake.ask(is_silent, silence_seconds=0.05, max_attempts=1)
    assert caught.value.code == "timeout"

    def drips(handler: BaseHTTPRequestHandler) -> None:
        says(*[chunk("x")] * 3)(handler)
        for _ in range(20):
            time.sleep(0.02)
            handler.wfile.write(chunk("x"))
            handler.wfile.flush()

    with pytest.raises(RequestError, match=r"takes longer than 0\.1 seconds"):
        fake.ask(drips, answer_seconds=0.1, max_attempts=1)


def test_nobody_there():
    config = EndpointConfig(url="http://127.0.0.1:9/v1", model="m", max_attempts=2, first_wait_seconds=0.001)
    with Endpoint(config) as endpoint, pytest.raises(RequestError, match="does not answer") as caught:
        endpoint.answer(ASK, ChatOptions())
    assert caught.value.code == UNREACHABLE and "is the server there" in caught.value.hint


def test_closing_ends_the_wait(fake: Fake):
    fake.plays, fake.bodies = [refuses(429, headers={"retry-after": "60"})], []
    endpoint = fake.open(max_wait_seconds=60)
    threading.Timer(0.05, endpoint.close).start()
    began = time.monotonic()
    with pytest.raises(RequestError):
        endpoint.answer(ASK, ChatOptions())
    assert time.monotonic() - began < 10


def test_a_stream_is_not_begun_again_once_it_was_told(fake: Fake):
    fake.plays, fake.bodies = [refuses(500), says(chunk("Hel"))], []
    with fake.open() as endpoint:
        deltas = endpoint.stream(ASK, ChatOptions())
        assert next(deltas).text == "Hel"
        with pytest.raises(RequestError, match="in the middle"):
            list(deltas)
    assert len(fake.bodies) == 2


def test_a_server_that_does_not_stream(fake: Fake):
    whole = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}
    whole["usage"] = {"prompt_tokens": 5, "completion_tokens": 2}
    found = fake.ask(says(json.dumps(whole).encode(), headers={"content-type": "application/json"}))
    assert (found.text, found.finish_reason, found.usage.prompt_tokens) == ("Hello", "stop", 5)


def test_log_probabilities_are_bytes(fake: Fake):
    top = [{"token": "ham", "logprob": -0.1, "bytes": [104, 97, 109]}, {"token": "é", "logprob": -3, "bytes": None}]
    entry = {"token": "ham", "logprob": -0.1, "bytes": [104, 97, 109], "top_logprobs": top}
    found = fake.ask(
        says(chunk("ham", logprobs={"content": [entry]}), chunk(reason="stop"), DONE),
        options=ChatOptions(top_logprobs=2),
    )
    assert found.tokens is not None and found.tokens[0].data == b"ham"
    assert [one.data for one in found.tokens[0].top] == [b"ham", "é".encode()]
    assert fake.bodies[0]["logprobs"] is True and fake.bodies[0]["top_logprobs"] == 2


def test_our_servers_joules_are_read(fake: Fake):
    joules = {"low": 1.0, "central": 2.0, "high": 3.0, "method": "estimated"}
    usage = json.dumps({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "energy_joules": joules}})
    found = fake.ask(says(chunk("a", reason="stop"), b"data: " + usage.encode() + b"\n\n", DONE))
    assert found.usage.energy_joules.to_dict() == joules


def test_the_key_is_sent_and_never_told(fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("BLOOMERY_ENDPOINT_KEY", KEY)
    with pytest.raises(RequestError) as caught:
        fake.ask(refuses(401, f"Incorrect key: {KEY}"))
    assert fake.keys == [f"Bearer {KEY}"]
    assert KEY not in caught.value.one_line() and "***" in caught.value.one_line()
    assert KEY not in repr(fake.open()) + repr(fake.open().config) + fake.open().name
    (tmp_path / "key").write_text("from-file\n")
    fake.ask(says(*GOOD), key_file=str(tmp_path / "key"))
    assert fake.keys == ["Bearer from-file"]


@pytest.mark.parametrize("text", ["", "two words", "zwölf", "a\nb"])
def test_a_key_that_cannot_be_one_is_refused_without_being_told(tmp_path: Path, text: str):
    (tmp_path / "key").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_key(EndpointConfig(url="https://x.example/v1", model="m", key_file=str(tmp_path / "key")))
    assert not text or text not in caught.value.one_line()


def test_a_key_goes_to_another_machine_encrypted_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOOMERY_ENDPOINT_KEY", KEY)
    with pytest.raises(ConfigError, match="in the open"):
        Endpoint(EndpointConfig(url="http://models.example/v1", model="m"))
    Endpoint(EndpointConfig(url="http://models.example/v1", model="m", plain_http=True)).close()
    Endpoint(EndpointConfig(url="https://models.example/v1", model="m")).close()


@pytest.mark.parametrize("url", ["", "models.example/v1", "ftp://x/v1", "http://user:secret@x/v1", "http://x/v1?key=1"])
def test_addresses_that_are_none(url: str):
    with pytest.raises(ConfigError) as caught:
        EndpointConfig(url=url, model="m")
    assert "secret" not in caught.value.one_line()


def test_how_choices_and_schemas_are_asked_for():
    config = EndpointConfig(url="https://x.example/v1", model="m")
    choices = ChatOptions(choices=("a", "b"))
    enum = request_body(config, ASK, choices)["response_format"]["json_schema"]["schema"]["properties"]["answer"][
        "enum"
    ]
    assert enum == ["a", "b"]
    ours = EndpointConfig(url="https://x.example/v1", model="m", structure="structured_outputs")
    assert request_body(ours, ASK, choices)["structured_outputs"] == {"choice": ["a", "b"]}
    words = EndpointConfig(
        url="https://x.example/v1", model="m", structure="prompt", limit_name="max_completion_tokens"
    )
    body = request_body(words, ASK, ChatOptions(schema={"type": "object"}, seed=3, stop=("x",), max_new_tokens=9))
    assert "response_format" not in body and (body["seed"], body["stop"]) == (3, ["x"])
    assert body["max_completion_tokens"] == 9 and "max_tokens" not in body


def test_retry_after_in_both_forms():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert 25 < (retry_after({"retry-after": soon}) or 0) <= 30
    assert [retry_after({"retry-after": one}) for one in ("", "soon", "inf", "nan")] == [None] * 4
    assert retry_after({"retry-after": "-3"}) == 0


def test_what_an_error_says():
    assert message_of('{"error": {"message": "a\\nb"}}') == "a b"
    assert message_of('{"detail": "no"}') == "no"
    assert message_of("<html>") == "<html>"
    assert message_of('{"error": "plain"}') == "plain"
