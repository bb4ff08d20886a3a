"""A server's echoed prompts as likelihoods: with its tokenizer or by where tokens begin, and servers that tell nothing.

A real server is asked in tests/clients/test_lm_eval.py.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bloomery.core.endpoint import Endpoint, EndpointConfig
from bloomery.core.endpoint_text import EndpointText
from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.likelihood import Pair
from bloomery.core.messages import ChatOptions


class Server(BaseHTTPRequestHandler):
    """A model of characters: each is as probable as its code is small, and "a" follows everything greedily."""

    tokenizer = True
    echoes = True
    broken = 0
    asked: list[dict[str, Any]] = []  # noqa: RUF012 - set anew for each test

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        info = {"bos_token": "^", "eos_token": "$", "max_model_len": 12}
        self.says(200, info) if self.tokenizer and self.path == "/tokenizer_info" else self.says(404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/tokenize":
            text = ("^" if body["add_special_tokens"] else "") + body["prompt"]
            self.says(200 if self.tokenizer else 404, {"tokens": list(map(ord, text)), "max_model_len": 12})
            return
        type(self).asked.append(body)
        if type(self).broken:
            type(self).broken -= 1
            self.says(503, {"error": {"message": "later"}})
            return
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        choices = [self.choice(place, prompt, body) for place, prompt in enumerate(prompts)]
        tokens = sum(map(len, prompts))
        energy = {"low": 1.0, "central": 2.0, "high": 3.0, "method": "sampled"}
        usage = {"prompt_tokens": tokens, "completion_tokens": len(prompts), "energy_joules": energy}
        self.says(200, {"choices": choices[::-1], "usage": usage})

    def choice(self, place: int, prompt: str | list[int], body: dict[str, Any]) -> dict[str, Any]:
        text = prompt if isinstance(prompt, str) else "".join(map(chr, prompt))
        if not body.get("echo") or not self.echoes:
            return {"index": place, "text": " so", "finish_reason": "stop", "logprobs": None}
        whole = text + "a"
        nats: list[float | None] = [-ord(one) / 100 for one in whole]
        tops = [
            {"a": -ord("a") / 100, one: n} if ord(one) >= ord("a") else {"a": 0.0, one: n}
            for one, n in zip(whole, nats, strict=True)
        ]
        logprobs = {"token_logprobs": [None, *nats[1:]], "top_logprobs": [None, *tops[1:]]}
        logprobs["text_offset"] = list(range(len(whole)))
        return {"index": place, "text": whole, "finish_reason": "length", "logprobs": logprobs}

    def says(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def served() -> Iterator[type[Server]]:
    handler = type("Own", (Server,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    handler.url = f"http://127.0.0.1:{server.server_address[1]}/v1"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def endpoint(served: type[Server]) -> Iterator[Endpoint]:
    url: str = served.url  # type: ignore[attr-defined]
    with Endpoint(EndpointConfig(url=url, model="m", first_wait_seconds=0.01, max_attempts=3)) as found:
        yield found


def nats(text: str) -> float:
    return -sum(map(ord, text)) / 100


PAIRS = [Pair("xy", " ab"), Pair("", "ab"), Pair("q ", "zz"), *(Pair("n", "a" * n) for n in range(1, 6))]


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_likelihoods_by_token_ids(served: type[Server], endpoint: Endpoint, batch: int):
    found = dict(EndpointText(endpoint, batch=batch).likelihoods(PAIRS))
    expected = [nats(" ab"), nats("ab"), nats(" zz"), *(nats("a" * n) for n in range(1, 6))]
    assert [found[place].nats for place in range(len(PAIRS))] == pytest.approx(expected)
    assert [found[place].tokens for place in range(4)] == [3, 2, 3, 1] and found[3].greedy and not found[2].greedy
    assert all(isinstance(prompt, list) for body in served.asked for prompt in body["prompt"])
    assert served.asked[0]["prompt"][0][0] == ord("^") and len(served.asked) == math.ceil(len(PAIRS) / batch)
    assert found[0].usage.prompt_tokens == 6 and found[0].usage.energy_joules.known
    bare = dict(EndpointText(endpoint, bos=False).likelihoods(PAIRS[:1]))
    assert bare[0].usage.prompt_tokens == 5 and bare[0].nats == pytest.approx(nats(" ab"))


def test_texts_that_are_too_long_lose_their_beginning(endpoint: Endpoint):
    ((_, found),) = EndpointText(endpoint).likelihoods([Pair("x" * 50, "ab")])
    assert found.nats == pytest.approx(nats("ab")) and found.usage.prompt_tokens == 11


def test_without_a_tokenizer_by_where_tokens_begin(served: type[Server], endpoint: Endpoint):
    served.tokenizer = False
    text = EndpointText(endpoint)
    found = dict(text.likelihoods([PAIRS[0], PAIRS[2]]))
    assert [found[place].nats for place in range(2)] == pytest.approx([nats(" ab"), nats(" zz")])
    assert served.asked[0]["prompt"] == ["xy ab", "q zz"]
    with pytest.raises(RequestError, match="tokenize"):
        list(text.likelihoods([Pair("", "ab")]))
    with pytest.raises(RequestError, match="tokenize"):
        list(text.rolling(["ab"]))


def test_whole_texts(endpoint: Endpoint):
    text = "the quick brown fox jumps"
    ((_, found),) = EndpointText(endpoint).rolling([text])
    assert found.nats == pytest.approx(nats(text)) and found.tokens == len(text)


def test_going_on_from_a_text(served: type[Server], endpoint: Endpoint):
    text = EndpointText(endpoint)
    options = ChatOptions(max_new_tokens=3, temperature=0.0, stop=("\n",), seed=1)
    served.broken = 2
    answer = text.answer([{"role": "user", "content": "and"}], options)
    assert (answer.text, answer.finish_reason, answer.attempts) == (" so", "stop", 3)
    assert answer.usage.prompt_tokens == 3 and answer.usage.energy_joules.central == 2.0
    body = served.asked[-1]
    assert (body["prompt"], body["max_tokens"], body["stop"], body["seed"]) == ("and", 3, ["\n"], 1)
    (delta,) = text.stream([{"role": "user", "content": "and"}], options)
    assert delta.text == " so"
    with pytest.raises(RequestError):
        text.answer([], ChatOptions(choices=("a", "b")))


def test_servers_that_tell_nothing(served: type[Server], endpoint: Endpoint):
    served.echoes = False
    with pytest.raises(RequestError) as caught:
        list(EndpointText(endpoint).likelihoods(PAIRS[:1]))
    assert "echo" in caught.value.one_line() and "\n" not in caught.value.one_line()
    served.broken = 9
    with pytest.raises(RequestError, match="later"):
        list(EndpointText(endpoint).likelihoods(PAIRS))
    for bad in (0, 1000):
        with pytest.raises(ConfigError):
            EndpointText(endpoint, batch=bad)
    with pytest.raises(RequestError):
        list(EndpointText(endpoint).likelihoods([Pair("a", "")]))
