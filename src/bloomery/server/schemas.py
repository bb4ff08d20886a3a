"""Request bodies of the OpenAI routes, as pydantic reads them from untrusted JSON.

A parameter that OpenAI has and this server does not support is an error that names it, unless its value asks for
nothing; it is never silently ignored. This module does not know models or answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from bloomery.core.errors import RequestError, nearest
from bloomery.engine.params import MAX_STOP_CHARACTERS, MAX_STOP_STRINGS, MAX_TOP_LOGPROBS, MAX_TRACED
from bloomery.models.text_decoding import MAX_LENGTH_PENALTY
from bloomery.server.structure import AnswerFields, StructureFields
from bloomery.server.tool_messages import Calls

MAX_ATTENTION_ROWS = 16
MAX_TIMEOUT_SECONDS = 86_400.0
Whole = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Priority = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0, le=MAX_TIMEOUT_SECONDS)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, StringConstraints(strict=True)]
StopText = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_STOP_CHARACTERS)]


def of_one_kind(value: Any) -> Any:
    """A list of texts, of token ids, or of lists of token ids; else ValueError at the first that is none. pydantic
    would try every form on every item, and tell of each."""
    if isinstance(value, list):
        kinds = {str} if value and isinstance(value[0], str) else {int} if value and type(value[0]) is int else {list}
        for item in value:
            wrong = next((x for x in item if type(x) is not int or x < 0), None) if isinstance(item, list) else None
            if type(item) not in kinds or wrong is not None or (type(item) is int and item < 0):
                raise ValueError("a text, token ids, or a list of either is expected")
    return value


TokenIds = Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]
Logprobs = Annotated[int, Field(strict=True, ge=0, le=MAX_TOP_LOGPROBS)]

# Parameters that change nothing here whatever their value: labels of the caller and hints to a cache.
_LABELS = frozenset({"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})
# Values of other parameters that ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "verbosity": (),
    "web_search_options": (),
}


class AttentionAsk(BaseModel):
    """One row: a layer's head, seen from a position of prompt and new tokens; numbers below 0 count from the end."""

    model_config = ConfigDict(extra="forbid")

    layer: Annotated[Whole, Field(ge=-(2**20), le=2**20)] = -1
    head: Annotated[Whole, Field(ge=-(2**20), le=2**20)] = 0
    query: Annotated[Whole, Field(ge=-(2**31), le=2**31)] = -1


class Inspect(BaseModel):
    """What to tell of each choice."""

    model_config = ConfigDict(extra="forbid")

    probabilities: Annotated[Whole, Field(ge=1, le=MAX_TRACED)] | None = None
    """Candidates for each new token."""
    attention: Annotated[list[AttentionAsk], Field(max_length=MAX_ATTENTION_ROWS)] = []


class SamplingFields(BaseModel):
    """What every route of texts takes: how tokens are drawn, when, and what is told of it."""

    temperature: Annotated[Real, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    top_k: Annotated[Whole, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    typical_p: Annotated[Real, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[Real, Field(ge=0.01, le=100)] | None = None
    presence_penalty: Annotated[Real, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[Real, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, Annotated[Real, Field(ge=-100, le=100)]] | None = None
    priority: Priority | None = None
    """Smaller is sooner, among the requests of one key."""
    timeout_seconds: Seconds | None = None
    """From arrival: then the answer ends as it stands, or with an error if nothing is written."""
    seed: Annotated[Whole, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=MAX_STOP_STRINGS)] | None = None
    ignore_eos: Flag | None = None
    """Go on after an end-of-sequence token, to the limit: for measurements."""
    inspect: Inspect | None = None


class Body(SamplingFields):
    """What both routes of OpenAI's older forms share."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: Text
    n: Annotated[Whole, Field(ge=1, le=128)] | None = None
    use_beam_search: Flag | None = None
    """As vLLM has it: see `beam_answers`."""
    length_penalty: Annotated[Real, Field(ge=-MAX_LENGTH_PENALTY, le=MAX_LENGTH_PENALTY)] | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None

    def refuse_unsupported(self) -> None:
        """RequestError for the first parameter that asks for something this server does not do."""
        refuse_unsupported(self.model_extra or {}, type(self).model_fields)
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options needs stream: true", param="stream_options", code="invalid_value")


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: Flag | None = None
    include_obfuscation: Literal[False] | None = None


class CompletionBody(AnswerFields, Body):
    """POST /v1/completions. `prompt` is one prompt or several, as text or as token ids."""

    prompt: Annotated[Text | list[Text] | TokenIds | list[TokenIds], BeforeValidator(of_one_kind)]
    max_tokens: Annotated[Whole, Field(ge=0, le=2**31 - 1)] | None = None
    logprobs: Logprobs | None = None
    echo: Flag | None = None
    best_of: Annotated[Whole, Field(ge=1, le=128)] | None = None

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        if self.best_of is not None:
            if self.best_of < (self.n or 1):
                raise RequestError("best_of should be at least n", param="best_of", code="invalid_value")
            if self.stream and self.best_of > (self.n or 1):
                raise RequestError("best_of cannot be streamed", param="best_of", code="invalid_value")


class ImageUrl(BaseModel):
    """A data URL. `detail` is taken and changes nothing: every model here reads pictures in one size."""

    model_config = ConfigDict(extra="forbid")

    url: Text
    detail: Literal["auto", "low", "high"] | None = None


class ContentPart(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Text
    text: Text | None = None
    image_url: ImageUrl | None = None


class Message(BaseModel):
    """One chat message; `content` is text or a list of parts, of text or of images. An assistant's may hold calls of
    tools, and each call is answered by a message of the role "tool"."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[ContentPart] | None = None
    name: Text | None = None
    tool_calls: Calls | None = None
    tool_call_id: Text | None = None

    def plain(self, place: int) -> dict[str, Any]:
        """Role and content as a chat template takes them: text, or with images a list of parts. RequestError for what
        is neither."""
        for name, value in (self.model_extra or {}).items():
            if value not in (None, [], ""):
                where = f"messages.{place}.{name}"
                raise RequestError(f"{where} is not supported", param=where, code="unsupported_parameter")
        self._check_tools(place)
        message: dict[str, Any] = {"role": "system" if self.role == "developer" else self.role}
        message["content"] = "" if self.content is None and self.tool_calls else self._content(place)
        if self.name:
            message["name"] = self.name
        if self.tool_calls:
            where = f"messages.{place}.tool_calls"
            message["tool_calls"] = [call.plain(f"{where}.{number}") for number, call in enumerate(self.tool_calls)]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return message

    def _check_tools(self, place: int) -> None:
        if self.tool_calls and self.role != "assistant":
            where = f"messages.{place}.tool_calls"
            raise RequestError(f"{where}: only the assistant calls tools", param=where, code="invalid_value")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            where = f"messages.{place}.tool_call_id"
            raise RequestError(f"{where} belongs to messages of tools", param=where, code="invalid_value")

    def image_urls(self, place: int) -> list[tuple[str, str]]:
        """(where it stands, URL) of each image of this message."""
        parts = self.content if isinstance(self.content, list) else []
        where = f"messages.{place}.content"
        return [(f"{where}.{n}.image_url.url", part.image_url.url) for n, part in enumerate(parts) if part.image_url]

    def _content(self, place: int) -> str | list[dict[str, str]]:
        where = f"messages.{place}.content"
        if self.content is None:
            raise RequestError(f"{where} should be text", param=where, code="invalid_value")
        if isinstance(self.content, str):
            return self.content
        for part in self.content:
            text, image = part.type == "text" and part.text is not None, part.type == "image_url" and part.image_url
            if part.model_extra or not (text or image) or (part.text is not None and part.image_url is not None):
                message = f"{where}: parts are text or image_url, not {part.type!r:.40}"
                raise RequestError(message, param=where, code="unsupported_parameter")
            if image and self.role != "user":
                raise RequestError(f"{where}: images stand in messages of the user", param=where, code="invalid_value")
        if all(part.type == "text" for part in self.content):
            return "".join(part.text or "" for part in self.content)
        return [{"type": "image"} if p.image_url else {"type": "text", "text": p.text or ""} for p in self.content]


class ChatBody(StructureFields, Body):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    max_tokens: Annotated[Whole, Field(ge=1, le=2**31 - 1)] | None = None
    max_completion_tokens: Annotated[Whole, Field(ge=1, le=2**31 - 1)] | None = None
    logprobs: Flag | None = None
    top_logprobs: Logprobs | None = None

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("top_logprobs needs logprobs: true", param="top_logprobs", code="invalid_value")


def refuse_unsupported(
    extra: dict[str, Any], known: Any, neutral_values: Mapping[str, tuple[Any, ...]] = _NEUTRAL
) -> None:
    """RequestError for the first extra parameter whose value asks for something; `neutral_values` says of each
    parameter that is not supported which values do not."""
    for name, value in extra.items():
        if value is None or name in _LABELS:
            continue
        neutral = neutral_values.get(name)
        if neutral is None:
            hint = nearest(name, known) if len(name) < 100 else ""
            raise RequestError(f"unknown parameter {name!r:.80}", hint=hint, param=name, code="unknown_parameter")
        if not any(type(value) in (type(n), float) and value == n for n in neutral):
            raise RequestError(f"{name} is not supported by this server", param=name, code="unsupported_parameter")


Body.model_rebuild()
