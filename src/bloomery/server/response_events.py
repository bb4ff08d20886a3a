"""The answers of /v1/responses: one JSON body, or the events of a stream in the order that clients accept.

    response.created, response.in_progress, response.output_item.added, response.content_part.added,
    response.output_text.delta*, response.output_text.done, response.content_part.done, response.output_item.done,
    response.completed (response.incomplete where max_output_tokens cut the answer)

Each has a `sequence_number`, counted from 0. A failure inside the stream is an event `error` that carries the error
object too, which clients raise. This module does not know requests' bodies beyond what it gives back of them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bloomery.engine import Delta
from bloomery.server.errors import describe
from bloomery.server.replies import EventStream, check_told, collect, encode_json, gone, refuse_cancelled, unless_gone
from bloomery.server.responses import ResponsesBody
from bloomery.server.served import ServedRequest
from bloomery.server.waiting import WaitingRoom


async def respond(http: Request, room: WaitingRoom, served: ServedRequest, body: ResponsesBody) -> Response:
    """The HTTP answer of a request that has a place in the waiting room; gives the place back at the end."""
    form = ResponseForm(served, body)
    if body.stream:
        return EventStream(_events(room, served, form), served)
    try:
        collected = await unless_gone(http, collect(room, served))
        if collected is None:
            return gone()
        check_told(served)
        for delta in collected[0]:
            form.add(delta)
        return Response(encode_json(form.response(form.status)), media_type="application/json")
    finally:
        served.job.leave()


@dataclass
class ResponseForm:
    """The one response of a request, as it grows."""

    served: ServedRequest
    body: ResponsesBody
    text: str = ""
    reason: str | None = None
    item: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")

    @property
    def status(self) -> str:
        return "incomplete" if self.reason in ("length", "deadline") else "completed"

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        if delta.finish_reason is not None:
            self.reason = delta.finish_reason

    def part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def message(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [self.part()]
        return {"id": self.item, "type": "message", "role": "assistant", "status": status, "content": content}

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
            "output": [self.message(status)] if done else [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "truncation": "disabled",
            "usage": self._usage() if done else None,
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
    return named if isinstance(named, dict) else {}


class _Numbered:
    """Events as server-sent events, numbered."""

    def __init__(self, item: str) -> None:
        self._next = 0
        self._place = {"item_id": item, "output_index": 0, "content_index": 0}

    def event(self, kind: str, **data: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._next, **data}
        self._next += 1
        return b"event: " + kind.encode() + b"\ndata: " + encode_json(data) + b"\n\n"

    def inside(self, kind: str, **data: Any) -> bytes:
        """An event of the text part."""
        return self.event(kind, **self._place, **data)


async def _events(room: WaitingRoom, served: ServedRequest, form: ResponseForm) -> AsyncIterator[bytes]:
    out = _Numbered(form.item)
    try:
        yield out.event("response.created", response=form.response("in_progress"))
        yield out.event("response.in_progress", response=form.response("in_progress"))
        yield out.event("response.output_item.added", output_index=0, item=form.message("in_progress"))
        yield out.inside("response.content_part.added", part=form.part())
        async with aclosing(room.stream(served.job, served.run)) as deltas:
            async for _, delta in deltas:
                refuse_cancelled(delta)
                form.add(delta)
                if delta.text:
                    yield out.inside("response.output_text.delta", delta=delta.text, logprobs=[])
        check_told(served)
        yield out.inside("response.output_text.done", text=form.text, logprobs=[])
        yield out.inside("response.content_part.done", part=form.part())
        yield out.event("response.output_item.done", output_index=0, item=form.message(form.status))
        served.visit.free_place()  # whoever reads the end may ask again at once
        yield out.event(f"response.{form.status}", response=form.response(form.status))
    except Exception as error:  # headers are sent: an error can only be told inside the stream
        told = describe(error)[1]["error"]
        named = {name: told[name] for name in ("code", "message", "param")}
        yield out.event("error", **named, error=told)
