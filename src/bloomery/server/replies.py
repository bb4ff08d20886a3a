"""Replies: a served request's deltas as one JSON body or as server-sent events.

What the two OpenAI routes share; a `Format` says what differs. A client that leaves stops the work. This module
does not know the fields of choices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bloomery.engine import Delta
from bloomery.server.errors import describe
from bloomery.server.served import ServedRequest
from bloomery.server.waiting import CANCELLED_STATUS, DeadlinePassed, ShuttingDown, WaitingRoom

T = TypeVar("T")


class Format(Protocol):
    """How one route writes choices. `choices` below are entries of the answer's list `choices`."""

    whole_object: str
    chunk_object: str

    def chunks(self, choice: int, delta: Delta) -> list[dict[str, Any]]:
        """The stream's choices for one delta, maybe none."""
        ...

    def whole(self, choice: int, deltas: list[Delta]) -> dict[str, Any]:
        """The choice of an answer that is not streamed."""
        ...


def encode_json(value: Any) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def finite(value: Any) -> Any:
    """Without numbers that JSON does not have, which Python reads all the same: they become null."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


async def reply(
    http: Request, room: WaitingRoom, served: ServedRequest, form: Format, *, stream: bool, include_usage: bool
) -> Response:
    """The HTTP answer of a request that has a place in the waiting room; gives the place back at the end."""
    if stream:
        return EventStream(_events(room, served, form, include_usage=include_usage), served)
    try:
        return await _whole(http, room, served, form)
    finally:
        served.job.leave()


class EventStream(StreamingResponse):
    """Server-sent events; the place is given back even when the stream was never begun."""

    def __init__(self, events: AsyncIterator[bytes], served: ServedRequest) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
            if not self._served.job.ended:  # the books should say what came of it, not how it began
                self._served.visit.status = self._served.job.cut_status
        finally:
            self._served.job.leave()


async def _events(
    room: WaitingRoom, served: ServedRequest, form: Format, *, include_usage: bool
) -> AsyncIterator[bytes]:
    head = {"id": served.id, "object": form.chunk_object, "created": served.created, "model": served.model.name}
    tail: dict[str, Any] = {"usage": None} if include_usage else {}
    try:
        async with aclosing(room.stream(served.job, served.run)) as deltas:
            async for choice, delta in deltas:
                refuse_cancelled(delta)
                entries = form.chunks(choice, delta)
                if entries and delta.result is not None:
                    entries[-1] |= served.inspected(delta)
                for entry in entries:
                    yield _event({**head, "choices": [entry], **tail})
        check_told(served)
        if include_usage:
            yield _event({**head, "choices": [], "usage": served.usage()})
    except Exception as error:  # headers are sent: an error can only be told inside the stream
        served.visit.status, told = describe(error)
        yield _event(told)
        return
    served.visit.answered()  # whoever reads the end may ask again at once
    yield b"data: [DONE]\n\n"


def _event(value: Any) -> bytes:
    return b"data: " + encode_json(value) + b"\n\n"


async def unless_gone(http: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives, or None when the client leaves before: then the work is cancelled."""
    doing = asyncio.create_task(work)
    watch = asyncio.create_task(_until_gone(http))
    try:
        await asyncio.wait({doing, watch}, return_when=asyncio.FIRST_COMPLETED)
        return await doing if doing.done() else None
    finally:
        await _stop(doing, watch)


def gone() -> Response:
    """The answer that nobody reads."""
    return Response(status_code=CANCELLED_STATUS)


async def _whole(http: Request, room: WaitingRoom, served: ServedRequest, form: Format) -> Response:
    collected = await unless_gone(http, collect(room, served))
    if collected is None:
        return gone()
    check_told(served)
    # Not on the event loop: log-probabilities of long texts are megabytes.
    answer = await asyncio.to_thread(_encoded, served, form, collected)
    return Response(answer, media_type="application/json")


def _encoded(served: ServedRequest, form: Format, collected: list[list[Delta]]) -> bytes:
    told = served.told(collected)
    choices = [form.whole(choice, deltas) for choice, deltas in enumerate(told)]
    for entry, deltas in zip(choices, told, strict=True):
        entry |= served.inspected(deltas[-1])
    body = {
        "id": served.id,
        "object": form.whole_object,
        "created": served.created,
        "model": served.model.name,
        "choices": choices,
        "usage": served.usage(),
    }
    return encode_json(body)


async def collect(room: WaitingRoom, served: ServedRequest) -> list[list[Delta]]:
    """All deltas of each choice."""
    choices: list[list[Delta]] = [[] for _ in range(len(served.prompts) * served.drawn)]
    async with aclosing(room.stream(served.job, served.run)) as deltas:
        async for choice, delta in deltas:
            refuse_cancelled(delta)
            choices[choice].append(delta)
    return choices


def check_told(served: ServedRequest) -> None:
    """DeadlinePassed where time was over before the first token."""
    if served.told_nothing:
        raise DeadlinePassed(served.job.seconds or 0.0)


def ending(reason: str | None) -> dict[str, str | None]:
    """The finish reason of a choice. OpenAI's clients know no deadline: what time has cut is as cut as what a limit
    has, and vLLM's `stop_reason` says which it was."""
    if reason == "deadline":
        return {"finish_reason": "length", "stop_reason": "deadline"}
    return {"finish_reason": reason}


def refuse_cancelled(delta: Delta) -> None:
    """ShuttingDown for a delta that the server's end has cut off."""
    if delta.finish_reason == "cancelled":
        raise ShuttingDown


async def _until_gone(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
