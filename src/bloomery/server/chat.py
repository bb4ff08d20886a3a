"""POST /v1/chat/completions: messages in, one assistant message a choice out, in text or in calls of tools.

Text of messages can never become special tokens: the tokenizer's chat template sees to that. This module does not
know how requests wait or run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import RequestError
from bloomery.engine import Delta, LanguageModel, VisionLanguageModel
from bloomery.engine.language_model import SamplingOptions
from bloomery.server.completions import sampling_options, try_constraint
from bloomery.server.logprobs import chat_logprobs
from bloomery.server.pictures import MAX_IMAGES, picture_of
from bloomery.server.replies import ending
from bloomery.server.schemas import ChatBody
from bloomery.server.structure import structure_of
from bloomery.server.tool_calls import AnswerReader, CallStart, Content, Event
from bloomery.server.tool_messages import new_call_id
from bloomery.tokenizer import ToolStyle

ROUTE = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A body as the engine takes it: token ids of the prompt, its images, options, and the form of the answers."""

    ids: list[int]
    images: list[Any]
    options: SamplingOptions
    form: ChatFormat


def read_chat(model: LanguageModel, body: ChatBody, *, default_tokens: int) -> ChatRequest:
    """Everything that can be wrong with a chat body is a RequestError here, before anything is generated. May take a
    while: texts of megabytes, pictures and grammars are read."""
    template = model.tokenizer.chat_template
    style = None if template is None else template.tool_style
    structure = structure_of(body, style)
    options = chat_options(body, default_tokens=default_tokens)
    if structure.constraint is not None:
        options["constraint"] = structure.constraint
        try_constraint(model, structure)
    messages = [message.plain(place) for place, message in enumerate(body.messages)]
    _check_tool_messages(body, style)
    tools = [tool.plain() for tool in body.wanted_tools] or None
    urls = image_urls(body)
    if urls:
        ids, images = illustrated_prompt(model, messages, urls, tools)
    else:
        ids, images = model.encode_prompt(messages, tools=tools), []
    form = ChatFormat(model, logprobs=bool(body.logprobs), style=style, names=structure.names)
    return ChatRequest(ids=ids, images=images, options=options, form=form)


def _check_tool_messages(body: ChatBody, style: ToolStyle | None) -> None:
    """A template that knows no tools would drop calls in silence."""
    if style is None:
        for place, message in enumerate(body.messages):
            if message.tool_calls or message.role == "tool":
                what = "this model's chat template knows no tools"
                raise RequestError(what, param=f"messages.{place}", code="unsupported_parameter")


def image_urls(body: ChatBody) -> list[tuple[str, str]]:
    """(where it stands, URL) of every image, in reading order. RequestError for too many."""
    found = [pair for place, message in enumerate(body.messages) for pair in message.image_urls(place)]
    if len(found) > MAX_IMAGES:
        raise RequestError(f"{len(found)} images are more than {MAX_IMAGES}", param="messages", code="invalid_value")
    return found


def illustrated_prompt(
    model: LanguageModel, messages: list[dict[str, Any]], urls: list[tuple[str, str]], tools: list[Any] | None = None
) -> tuple[list[int], list[Any]]:
    """The token ids of messages with images, and the images. RequestError for a model that sees none, and for what is
    no image."""
    if not isinstance(model, VisionLanguageModel):
        raise RequestError(f"{model.name} reads text only", param=urls[0][0], code="unsupported_parameter")
    images = [picture_of(url, where) for where, url in urls]
    return model.encode_with_images(messages, len(images), tools=tools), images


def chat_options(body: ChatBody, *, default_tokens: int) -> SamplingOptions:
    options = sampling_options(body)
    wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    options["max_new_tokens"] = default_tokens if wanted is None else wanted
    options["logprobs"] = (body.top_logprobs or 0) if body.logprobs else None
    return options


class ChatFormat:
    """See `replies.Format`. With `names`, the functions that may be called, an answer's calls are read out of it."""

    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(
        self,
        model: LanguageModel,
        *,
        logprobs: bool,
        style: ToolStyle | None = None,
        names: frozenset[str] = frozenset(),
    ) -> None:
        self._tokenizer = model.tokenizer
        self._logprobs = logprobs
        self._style = style if names else None
        self._names = names
        self._readers: dict[int, AnswerReader] = {}
        self._begun: set[int] = set()

    def chunks(self, choice: int, delta: Delta) -> list[dict[str, Any]]:
        entries = []
        if choice not in self._begun:
            self._begun.add(choice)
            entries.append(_chunk(choice, {"role": "assistant", "content": ""}, None))
        logprobs = self._content(delta) if self._logprobs else None
        steps = [self._step(event) for event in self._events(choice, delta)]
        if not steps and logprobs is not None and logprobs["content"]:
            steps.append({} if self._style else {"content": ""})
        for place, step in enumerate(steps):
            entries.append(_chunk(choice, step, None, None if place else logprobs))
        if delta.finish_reason is not None:
            entries.append(_chunk(choice, {}, self._reason(choice, delta)))
        return entries

    def whole(self, choice: int, deltas: list[Delta]) -> dict[str, Any]:
        content = [entry for delta in deltas for entry in self._content(delta)["content"]] if self._logprobs else None
        texts, calls = [], []
        for event in (event for delta in deltas for event in self._events(choice, delta)):
            if isinstance(event, Content):
                texts.append(event.text)
            elif isinstance(event, CallStart):
                calls.append(self._call(event))
            else:
                calls[event.index]["function"]["arguments"] += event.text
        message: dict[str, Any] = {"role": "assistant", "content": "".join(texts), "refusal": None}
        if calls:
            message |= {"content": message["content"] or None, "tool_calls": calls}
        return {
            "index": choice,
            "message": message,
            "logprobs": None if content is None else {"content": content, "refusal": None},
        } | ending(self._reason(choice, deltas[-1]))

    def _events(self, choice: int, delta: Delta) -> list[Event]:
        if choice not in self._readers:
            self._readers[choice] = AnswerReader(self._tokenizer, self._style, self._names)
        return self._readers[choice].push(delta)

    def _step(self, event: Event) -> dict[str, Any]:
        """A stream's delta. Id and name come once: clients join what is repeated."""
        if isinstance(event, Content):
            return {"content": event.text}
        if isinstance(event, CallStart):
            return {"tool_calls": [{"index": event.index, **self._call(event)}]}
        return {"tool_calls": [{"index": event.index, "function": {"arguments": event.text}}]}

    def _call(self, event: CallStart) -> dict[str, Any]:
        assert self._style is not None
        function = {"name": event.name, "arguments": ""}
        return {"id": new_call_id(self._style.id_characters), "type": "function", "function": function}

    def _reason(self, choice: int, delta: Delta) -> str | None:
        reader = self._readers.get(choice)
        called = reader is not None and reader.calls > 0
        return "tool_calls" if called and delta.finish_reason == "stop" else delta.finish_reason

    def _content(self, delta: Delta) -> dict[str, Any]:
        return {"content": chat_logprobs(self._tokenizer, delta), "refusal": None}


def _chunk(choice: int, delta: dict[str, Any], reason: str | None, logprobs: Any = None) -> dict[str, Any]:
    return {"index": choice, "delta": delta, "logprobs": logprobs} | ending(reason)
