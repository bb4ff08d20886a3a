"""The items of a conversation in /v1/responses: messages, calls of functions and what came of them, as a chat template
takes them.

This module does not know bodies, answers or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bloomery.core.errors import RequestError
from bloomery.server.schemas import Text
from bloomery.server.tool_messages import CallBody, CalledFunction

_KINDS = ("message", "function_call", "function_call_output")
_STATUSES = ("in_progress", "completed", "incomplete")


class InputPart(BaseModel):
    """`input_text` and, from an assistant, `output_text`; `input_image` is an image as a data URL."""

    model_config = ConfigDict(extra="allow")

    type: Text
    text: Text | None = None
    image_url: Text | None = None
    detail: Literal["auto", "low", "high"] | None = None


class InputItem(BaseModel):
    """A message, a call of a function ("function_call"), or what it gave ("function_call_output")."""

    model_config = ConfigDict(extra="allow")

    type: Text = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Text | list[InputPart] | None = None
    status: Text | None = None
    id: Text | None = None
    call_id: Text | None = None
    name: Text | None = None
    arguments: Text | None = None
    output: Text | list[InputPart] | None = None


def item_messages(items: Sequence[InputItem], *, first: int = 0) -> list[dict[str, Any]]:
    """The conversation as a chat template takes it: calls stand in the assistant's message before them, or in one of
    their own. RequestError, naming the item, for what is neither a message nor a call nor what one gave.

    `first` is how many items come from an earlier response; errors count without them.
    """
    messages: list[dict[str, Any]] = []
    called: set[str] = set()
    for place, item in enumerate(items):
        where = f"input.{place - first}" if place >= first else "previous_response_id"
        if item.type not in _KINDS:
            message = f"{where}: items of type {item.type!r:.40} are not supported"
            raise RequestError(message, param=where, code="unsupported_parameter")
        _refuse_more(item, where)
        if item.type == "message":
            messages.append(_message(item, where))
        elif item.type == "function_call":
            call = _call(item, where)
            called.add(call["id"])
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            messages[-1].setdefault("tool_calls", []).append(call)
        else:
            messages.append(_output(item, where, called))
    return messages


def item_image_urls(items: Sequence[InputItem], *, first: int = 0) -> list[tuple[str, str]]:
    """(where it stands, URL) of every image, in reading order."""
    found = []
    for place, item in enumerate(items):
        for number, part in enumerate(item.content if isinstance(item.content, list) else []):
            if part.type == "input_image" and part.image_url is not None:
                found.append((f"input.{place - first}.content.{number}.image_url", part.image_url))
    return found


def _refuse_more(item: InputItem, where: str) -> None:
    for name, value in (item.model_extra or {}).items():
        if value not in (None, [], "", "final_answer") or (value == "final_answer" and name != "phase"):
            param = f"{where}.{name:.80}"
            raise RequestError(f"{param} is not supported", param=param, code="unsupported_parameter")
    if item.status not in (None, *_STATUSES):
        raise RequestError(f"{where}.status is none", param=f"{where}.status", code="invalid_value")


def _call(item: InputItem, where: str) -> dict[str, Any]:
    for name in ("call_id", "name", "arguments"):
        if getattr(item, name) is None:
            raise RequestError(
                f"{where} should have {name}", param=f"{where}.{name}", code="missing_required_parameter"
            )
    call = CallBody(
        id=item.call_id or "", function=CalledFunction(name=item.name or "", arguments=item.arguments or "")
    )
    try:
        return call.plain(where)
    except RequestError as error:
        param = f"{where}.arguments"
        raise RequestError(f"{param} should be the text of a JSON object", param=param, code="invalid_value") from error


def _output(item: InputItem, where: str, called: set[str]) -> dict[str, Any]:
    if item.call_id is None or item.output is None:
        name = "call_id" if item.call_id is None else "output"
        raise RequestError(f"{where} should have {name}", param=f"{where}.{name}", code="missing_required_parameter")
    if item.call_id not in called:
        message = f"{where}: no function_call before it has the call_id {item.call_id!r:.80}"
        raise RequestError(message, param=f"{where}.call_id", code="invalid_value")
    if isinstance(item.output, str):
        text = item.output
    else:
        parts = [_part(part, "tool", f"{where}.output.{number}") for number, part in enumerate(item.output)]
        text = "".join(part["text"] for part in parts)
    return {"role": "tool", "content": text, "tool_call_id": item.call_id}


def _message(item: InputItem, where: str) -> dict[str, Any]:
    if item.role is None or item.content is None:
        name = "role" if item.role is None else "content"
        message = f"{where} should have a role and content"
        raise RequestError(message, param=f"{where}.{name}", code="missing_required_parameter")
    role = "system" if item.role == "developer" else item.role
    if isinstance(item.content, str):
        return {"role": role, "content": item.content}
    parts = [_part(part, role, f"{where}.content.{number}") for number, part in enumerate(item.content)]
    if all(part["type"] == "text" for part in parts):
        return {"role": role, "content": "".join(part["text"] for part in parts)}
    return {"role": role, "content": parts}


def _part(part: InputPart, role: str, where: str) -> dict[str, str]:
    wanted = "output_text" if role == "assistant" else "input_text"
    if part.type == wanted and part.text is not None and part.image_url is None:
        for name, value in (part.model_extra or {}).items():
            # Log-probabilities come back from clients that were told them, and change nothing.
            if name not in ("annotations", "logprobs") or (name == "annotations" and value not in (None, [])):
                param = f"{where}.{name:.80}"
                raise RequestError(f"{param} is not supported", param=param, code="unsupported_parameter")
        return {"type": "text", "text": part.text}
    if part.type == "input_image" and role == "user" and part.image_url is not None and part.text is None:
        if any(value is not None for value in (part.model_extra or {}).values()):
            raise RequestError(f"{where}: images are data URLs", param=where, code="unsupported_parameter")
        return {"type": "image"}
    message = f"{where}: parts of the {role} are {wanted}{' or input_image' if role == 'user' else ''}"
    raise RequestError(f"{message}, not {part.type!r:.40}", param=where, code="unsupported_parameter")
