"""POST /v1/responses: OpenAI's Responses, of text. Nothing is stored: every request brings its whole conversation.

This module does not know how requests wait or run, nor the events of a stream (see `response_events`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bloomery.core.errors import RequestError
from bloomery.engine.language_model import SamplingOptions
from bloomery.server.schemas import Flag, Priority, Real, Seconds, Text, Whole, refuse_unsupported

ROUTE = "/v1/responses"
MAX_ITEMS = 10_000
# Values of parameters that are not supported which ask for nothing. Nothing is stored, so `store: true` would be a lie.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "background_options": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "include": ([],),
    "max_tool_calls": (),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "previous_response_id": (),
    "prompt": (),
    "prompt_cache_options": ({},),
    "reasoning": ({}, {"effort": "none"}, {"effort": None, "summary": None}),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
}


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class InputPart(_Open):
    """`input_text` and, from an assistant, `output_text`; `input_image` is an image as a data URL."""

    type: Text
    text: Text | None = None
    image_url: Text | None = None
    detail: Literal["auto", "low", "high"] | None = None


class InputItem(_Open):
    """One message of the conversation."""

    type: Text = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Text | list[InputPart] | None = None
    status: Text | None = None
    id: Text | None = None


class TextFormat(_Open):
    type: Text


class TextConfig(_Open):
    format: TextFormat | None = None


class StreamOptions(_Open):
    include_obfuscation: Literal[False] | None = None


class ResponsesBody(_Open):
    """See the module; the sampling parameters that OpenAI does not have are those of the other routes."""

    model: Text
    input: Text | Annotated[list[InputItem], Field(min_length=1, max_length=MAX_ITEMS)]
    instructions: Text | None = None
    max_output_tokens: Annotated[Whole, Field(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[Real, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Whole, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    priority: Priority | None = None
    timeout_seconds: Seconds | None = None
    seed: Annotated[Whole, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    text: TextConfig | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None

    def refuse_unsupported(self) -> None:
        """RequestError for the first parameter that asks for something this route does not do."""
        extra = {name: value for name, value in (self.model_extra or {}).items() if not _asks_nothing(name, value)}
        refuse_unsupported(extra, type(self).model_fields, _NEUTRAL)
        if self.text is not None:
            refuse_unsupported(self.text.model_extra or {}, TextConfig.model_fields, {"verbosity": ("medium",)})
            if self.text.format is not None and self.text.format.type != "text":
                message = f"text.format {self.text.format.type!r:.40} is not supported on this route"
                hint = "use response_format of /v1/chat/completions"
                raise RequestError(message, hint=hint, param="text.format", code="unsupported_parameter")
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options needs stream: true", param="stream_options", code="invalid_value")


def _asks_nothing(name: str, value: Any) -> bool:
    """An empty object or list, or an object of nothing but nulls, of a parameter that OpenAI has."""
    if name not in _NEUTRAL:
        return False
    return value in ([], {}) or (isinstance(value, dict) and all(inner is None for inner in value.values()))


def response_messages(body: ResponsesBody) -> list[dict[str, Any]]:
    """The conversation as a chat template takes it; the instructions come first. RequestError for items that are no
    messages (calls of tools, references to what would have been stored)."""
    messages: list[dict[str, Any]] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        return [*messages, {"role": "user", "content": body.input}]
    return messages + [_message(item, f"input.{place}") for place, item in enumerate(body.input)]


def response_image_urls(body: ResponsesBody) -> list[tuple[str, str]]:
    """(where it stands, URL) of every image, in reading order."""
    found = []
    for place, item in enumerate(body.input if isinstance(body.input, list) else []):
        for number, part in enumerate(item.content if isinstance(item.content, list) else []):
            if part.type == "input_image" and part.image_url is not None:
                found.append((f"input.{place}.content.{number}.image_url", part.image_url))
    return found


def _message(item: InputItem, where: str) -> dict[str, Any]:
    if item.type != "message":
        raise RequestError(
            f"{where}: items of type {item.type!r:.40} are not supported", param=where, code="unsupported_parameter"
        )
    for name, value in (item.model_extra or {}).items():
        if value not in (None, [], "", "final_answer") or (value == "final_answer" and name != "phase"):
            param = f"{where}.{name:.80}"
            raise RequestError(f"{param} is not supported", param=param, code="unsupported_parameter")
    if item.role is None or item.content is None:
        raise RequestError(f"{where} should have a role and content", param=where, code="invalid_value")
    role = "system" if item.role == "developer" else item.role
    if isinstance(item.content, str):
        return {"role": role, "content": item.content}
    parts = [_part(part, role, f"{where}.content.{number}") for number, part in enumerate(item.content)]
    if all(part["type"] == "text" for part in parts):
        return {"role": role, "content": "".join(part["text"] for part in parts)}
    return {"role": role, "content": parts}


def _part(part: InputPart, role: str, where: str) -> dict[str, str]:
    texts = ("output_text",) if role == "assistant" else ("input_text",)
    if part.type in texts and part.text is not None and part.image_url is None:
        for name, value in (part.model_extra or {}).items():
            if name not in ("annotations", "logprobs") or value not in (None, []):
                param = f"{where}.{name:.80}"
                raise RequestError(f"{param} is not supported", param=param, code="unsupported_parameter")
        return {"type": "text", "text": part.text}
    if part.type == "input_image" and role == "user" and part.image_url is not None and part.text is None:
        if any(value is not None for value in (part.model_extra or {}).values()):
            raise RequestError(f"{where}: images are data URLs", param=where, code="unsupported_parameter")
        return {"type": "image"}
    message = f"{where}: parts of the {role} are {texts[0]}{' or input_image' if role == 'user' else ''}"
    raise RequestError(f"{message}, not {part.type!r:.40}", param=where, code="unsupported_parameter")


def response_options(body: ResponsesBody, *, default_tokens: int) -> SamplingOptions:
    """What the engine is asked."""
    return {
        "max_new_tokens": default_tokens if body.max_output_tokens is None else body.max_output_tokens,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": body.top_p,
        "top_k": None if body.top_k == -1 else body.top_k,
        "min_p": body.min_p,
        "seed": body.seed,
    }
