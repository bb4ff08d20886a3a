"""Replies: places come back whether a stream is read, left, broken or never begun."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.requests import Request

from bloomery.engine import LanguageModel
from bloomery.server.chat import ChatFormat
from bloomery.server.metrics import Metrics
from bloomery.server.replies import encode_json, reply
from bloomery.server.served import ServedRequest
from bloomery.server.waiting import CANCELLED_STATUS, WaitingRoom


def make(tiny: LanguageModel, room: WaitingRoom, **options) -> ServedRequest:
    return ServedRequest(
        id="x",
        route="/v1/chat/completions",
        model=tiny,
        prompts=[[5, 6]],
        n=1,
        options={"max_new_tokens": 200, "seed": 0, "ignore_eos": True, **options},
        job=room.enter(),
        metrics=Metrics(room),
    )


def ask(tiny: LanguageModel, *, stream: bool, leaves: bool, **options):
    """(response, messages sent, the room, the request) for a client that leaves at once or listens."""

    async def main():
        room = WaitingRoom(max_running=1, max_waiting=0)
        served = make(tiny, room, **options)
        sent: list = []

        async def receive():
            if not leaves:
                await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        http = Request({"type": "http", "headers": [], "method": "POST", "path": "/"}, receive)
        form = ChatFormat(tiny, logprobs=False)
        response = await reply(http, room, served, form, stream=stream, include_usage=True)
        await response({"type": "http"}, receive, send)
        while room.running:
            await asyncio.sleep(0.01)
        assert room.waiting == 0
        room.close()
        return response, sent, served

    return asyncio.run(main())


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_listens_gets_all(tiny: LanguageModel, stream: bool):
    response, sent, served = ask(tiny, stream=stream, leaves=False)
    assert response.status_code == 200
    data = b"".join(message.get("body", b"") for message in sent)
    assert served.usage()["completion_tokens"] == 200
    assert data.endswith(b"data: [DONE]\n\n") if stream else json.loads(data)["usage"]["completion_tokens"] == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_cancels_the_work(tiny: LanguageModel, stream: bool):
    response, _, served = ask(tiny, stream=stream, leaves=True)
    assert stream or response.status_code == CANCELLED_STATUS
    assert served.job.cancel.is_set()
    assert served.usage()["completion_tokens"] < 200


def test_a_failure_inside_a_stream_is_told_inside_it(tiny: LanguageModel):
    _, sent, _ = ask(tiny, stream=True, leaves=False, temperature=-5)
    data = b"".join(message.get("body", b"") for message in sent)
    assert json.loads(data.removeprefix(b"data: "))["error"]["param"] == "temperature"


def test_json_is_ascii_on_one_line_and_never_nan():
    assert encode_json({"a": "ü\u2028\n"}) == b'{"a":"\\u00fc\\u2028\\n"}'
    with pytest.raises(ValueError):
        encode_json(float("nan"))
