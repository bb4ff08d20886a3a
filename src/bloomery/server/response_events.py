"""The answers of /v1/responses: one JSON body, or the events of a stream in the order that clients accept.

    response.created, response.in_progress, the events of each output item (see `response_output`),
    response.completed (response.incomplete where max_output_tokens or time cut the answer)

Each has a `sequence_number`, counted from 0. A failure inside the stream is an event `error` that carries the error
object too, which clients raise. A response that is kept is kept before its end is told, so that the next request may go
on from it. This module does not know requests' bodies beyond what it gives back of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bloomery.engine import Delta
from bloomery.server.errors import describe
from bloomery.server.logprobs import chat_logprobs
from bloomery.server.replies import (
    EventStream,
    check_told,
    collect,
    encode_json,
    finite,
    gone,
    refuse_cancelled,
    unless_gone,
)
from bloomery.server.response_output import OutputItems, Told
from bloomery.server.responses import ResponseRequest, ResponsesBody
from bloomery.server.served import ServedRequest
from bloomery.server.tool_calls import AnswerReader, Content
from bloomery.server.waiting import WaitingRoom

Keep = Callable[[dict[str, Any], list[dict[str, Any]]], None]
"""Keeps a response that is whole, and all items of its conversation. May take a while."""


async def respond(
    http: Request,
    room: WaitingRoom,
    served: ServedRequest,
    body: ResponsesBody,
    asked: ResponseRequest,
    keep: Keep | None = None,
) -> Response:
    """The HTTP answer of a request that has a place in the waiting room; gives the place back at the end."""
    form = ResponseForm(served, body, asked, keep)
    if body.stream:
        return EventStream(_events(room, served, form), served)
    try:
        collected = await unless_gone(http, collect(room, served))
        if collected is None:
            return gone()
        check_told(served)
        for delta in collected[0]:
            for _ in form.add(delta):
                pass
        for _ in form.end():
            pass
        answer = form.response(form.status)
        await form.kept(answer)
        return Response(await asyncio.to_thread(encode_json, answer), media_type="application/json")
    finally:
        served.job.leave()


@dataclass
class ResponseForm:
    """The one response of a request, as it grows."""

    served: ServedRequest
    body: ResponsesBody
    asked: ResponseRequest
    keep: Keep | None = None
    reason: str | None = None
    inspected: dict[str, Any] = field(default_factory=dict)
    """What was asked with `inspect`: an extension of the whole response, which is not kept."""
    output: OutputItems = field(init=False)
    _reader: AnswerReader = field(init=False)

    def __post_init__(self) -> None:
        style = self.asked.style
        self.output = OutputItems(id_characters=24 if style is None else style.id_characters)
        self._reader = AnswerReader(self.served.model.tokenizer, style, self.asked.names)

    @property
    def status(self) -> str:
        return "incomplete" if self.reason in ("length", "deadline") else "completed"

    def add(self, delta: Delta) -> Iterator[Told]:
        """The events of one more delta."""
        if delta.finish_reason is not None:
            self.reason = delta.finish_reason
            self.inspected = self.served.inspected(delta)
        logprobs = chat_logprobs(self.served.model.tokenizer, delta) if self.body.wants_logprobs else []
        events = self._reader.push(delta)
        if logprobs and not events and not self.asked.names:
            events = [Content("")]  # a token that is no character yet
        for place, event in enumerate(events):
            yield from self.output.push(event, [] if place else logprobs)

    def end(self) -> Iterator[Told]:
        return self.output.finish(self.status)

    async def kept(self, answer: dict[str, Any]) -> None:
        """Keep it, where it is to be kept."""
        if self.keep is not None:
            kept = {name: value for name, value in answer.items() if name not in self.inspected}
            await asyncio.to_thread(self.keep, kept, [*self.asked.items, *self.output.items])

    def response(self, status: str) -> dict[str, Any]:
        """OpenAI's response object; usage only at the end, with `energy_joules` and `timings` as extensions."""
        body, done = self.body, status != "in_progress"
        return {
            "id": self.served.id,
            "object": "response",
            "created_at": self.served.created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": self._details() if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": _metadata(body),
            "model": self.served.model.name,
            "output": self.output.items if done else [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": self.keep is not None,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": {"format": _format(body)},
            "tool_choice": body.tool_choice or "auto",
            "tools": [_tool(tool) for tool in body.tools or []],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "usage": self._usage() if done else None,
            **(self.inspected if done else {}),
        }

    def _details(self) -> dict[str, str]:
        """What cut it; `cut_by` is an extension, for OpenAI's clients know no deadline."""
        late = {"cut_by": "deadline"} if self.reason == "deadline" else {}
        return {"reason": "max_output_tokens", **late}

    def _usage(self) -> dict[str, Any]:
        usage = self.served.usage()
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage["total_tokens"],
            "energy_joules": usage["energy_joules"],
            "timings": usage["timings"],
        }


def _metadata(body: ResponsesBody) -> dict[str, Any]:
    named = (body.model_extra or {}).get("metadata")
    return finite(named) if isinstance(named, dict) else {}


def _format(body: ResponsesBody) -> dict[str, Any]:
    form = None if body.text is None else body.text.format
    return {"type": "text"} if form is None else finite(form.model_dump(exclude_none=True, by_alias=True))


def _tool(tool: Any) -> dict[str, Any]:
    """With the nulls that clients' types insist on."""
    names = ("type", "name", "description", "parameters", "strict")
    return finite({name: getattr(tool, name) for name in names})


class _Numbered:
    """Events as server-sent events, numbered."""

    def __init__(self) -> None:
        self._next = 0

    def event(self, kind: str, **data: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._next, **data}
        self._next += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode_json(data) + b"\n\n"


async def _events(room: WaitingRoom, served: ServedRequest, form: ResponseForm) -> AsyncIterator[bytes]:
    out = _Numbered()
    try:
        yield out.event("response.created", response=form.response("in_progress"))
        yield out.event("response.in_progress", response=form.response("in_progress"))
        async with aclosing(room.stream(served.job, served.run)) as deltas:
            async for _, delta in deltas:
                refuse_cancelled(delta)
                for kind, data in form.add(delta):
                    yield out.event(f"response.{kind}", **data)
        check_told(served)
        for kind, data in form.end():
            yield out.event(f"response.{kind}", **data)
        answer = form.response(form.status)
        await form.kept(answer)
        served.visit.answered()  # whoever reads the end may ask again at once
        yield out.event(f"response.{form.status}", response=answer)
    except Exception as error:  # headers are sent: an error can only be told inside the stream
        served.visit.status, described = describe(error)
        told = described["error"]
        named = {name: told[name] for name in ("code", "message", "param")}
        yield out.event("error", **named, error=told)
