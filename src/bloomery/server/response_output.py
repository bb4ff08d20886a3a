"""The output items of a response as they grow: messages and calls of functions, and the events that tell of them.

    message        output_item.added, content_part.added, output_text.delta*, output_text.done, content_part.done,
                   output_item.done
    function_call  output_item.added, function_call_arguments.delta*, function_call_arguments.done, output_item.done

This module does not know streams or requests.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

from bloomery.server.tool_calls import CallArguments, CallStart, Content, Event
from bloomery.server.tool_messages import new_call_id

Told = tuple[str, dict[str, Any]]
"""An event's type without "response.", and its data."""


class OutputItems:
    """`items` are those so far; the last one may still be open."""

    def __init__(self, *, id_characters: int) -> None:
        """`id_characters` of the ids of calls."""
        self.items: list[dict[str, Any]] = []
        self._id_characters = id_characters
        self._open = False

    def push(self, event: Event, logprobs: list[dict[str, Any]]) -> Iterator[Told]:
        """One more piece of the answer; `logprobs` belong to a piece of text."""
        if isinstance(event, Content):
            if not self._open or self.items[-1]["type"] != "message":
                yield from self._begin(_message())
            part = self.items[-1]["content"][0]
            part["text"] += event.text
            part["logprobs"] += logprobs
            yield "output_text.delta", {**self._part_place(), "delta": event.text, "logprobs": logprobs}
        elif isinstance(event, CallStart):
            yield from self._begin(_call(event.name, new_call_id(self._id_characters)))
        elif isinstance(event, CallArguments):
            self.items[-1]["arguments"] += event.text
            yield "function_call_arguments.delta", {**self._place(), "delta": event.text}

    def finish(self, status: str) -> Iterator[Told]:
        """No more comes; an answer of nothing is an empty message."""
        if not self.items:
            yield from self._begin(_message())
        yield from self._end(status)

    def _begin(self, item: dict[str, Any]) -> Iterator[Told]:
        yield from self._end("completed")
        self.items.append(item)
        self._open = True
        shown = {**item, "content": []} if item["type"] == "message" else dict(item)
        yield "output_item.added", {"output_index": len(self.items) - 1, "item": shown}
        if item["type"] == "message":
            yield "content_part.added", {**self._part_place(), "part": dict(item["content"][0])}

    def _end(self, status: str) -> Iterator[Told]:
        if not self._open:
            return
        self._open = False
        item = self.items[-1]
        if item["type"] == "message":
            part = item["content"][0]
            yield "output_text.done", {**self._part_place(), "text": part["text"], "logprobs": part["logprobs"]}
            yield "content_part.done", {**self._part_place(), "part": part}
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield "function_call_arguments.done", {**self._place(), **done}
        item["status"] = status
        yield "output_item.done", {"output_index": len(self.items) - 1, "item": item}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}

    def _part_place(self) -> dict[str, Any]:
        return {**self._place(), "content_index": 0}


def _message() -> dict[str, Any]:
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "status": "in_progress",
        "content": [part],
    }


def _call(name: str, call_id: str) -> dict[str, Any]:
    return {
        "id": f"fc_{secrets.token_hex(12)}",
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": "",
        "status": "in_progress",
    }
