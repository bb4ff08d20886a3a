"""POST /v1/chat/completions: messages in, one assistant message a choice out.

Text of messages can never become special tokens: the tokenizer's chat template sees to that. This module does not
know how requests wait or run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bloomery.core.errors import RequestError
from bloomery.engine import Delta, LanguageModel, VisionLanguageModel
from bloomery.engine.language_model import SamplingOptions
from bloomery.server.completions import sampling_options
from bloomery.server.logprobs import chat_logprobs
from bloomery.server.pictures import MAX_IMAGES, picture_of
from bloomery.server.schemas import ChatBody

if TYPE_CHECKING:
    from PIL.Image import Image

ROUTE = "/v1/chat/completions"


def chat_messages(body: ChatBody) -> list[dict[str, Any]]:
    """Messages as a chat template takes them."""
    return [message.plain(place) for place, message in enumerate(body.messages)]


def image_urls(body: ChatBody) -> list[tuple[str, str]]:
    """(where it stands, URL) of every image, in reading order. RequestError for too many."""
    found = [pair for place, message in enumerate(body.messages) for pair in message.image_urls(place)]
    if len(found) > MAX_IMAGES:
        raise RequestError(f"{len(found)} images are more than {MAX_IMAGES}", param="messages", code="invalid_value")
    return found


def illustrated_prompt(
    model: LanguageModel, messages: list[dict[str, Any]], urls: list[tuple[str, str]]
) -> tuple[list[int], list[Image]]:
    """The token ids of messages with images, and the images. RequestError for a model that sees none, and for what is
    no image."""
    if not isinstance(model, VisionLanguageModel):
        raise RequestError(f"{model.name} reads text only", param=urls[0][0], code="unsupported_parameter")
    images = [picture_of(url, where) for where, url in urls]
    return model.encode_with_images(messages, len(images)), images


def chat_options(body: ChatBody, *, default_tokens: int) -> SamplingOptions:
    options = sampling_options(body)
    wanted = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    options["max_new_tokens"] = default_tokens if wanted is None else wanted
    options["logprobs"] = (body.top_logprobs or 0) if body.logprobs else None
    return options


class ChatFormat:
    """See `replies.Format`."""

    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, model: LanguageModel, *, logprobs: bool) -> None:
        self._tokenizer = model.tokenizer
        self._logprobs = logprobs
        self._begun: set[int] = set()

    def chunks(self, choice: int, delta: Delta) -> list[dict[str, Any]]:
        entries = []
        if choice not in self._begun:
            self._begun.add(choice)
            entries.append(_chunk(choice, {"role": "assistant", "content": ""}, None))
        logprobs = self._content(delta) if self._logprobs else None
        if delta.text or (logprobs is not None and logprobs["content"]):
            entries.append(_chunk(choice, {"content": delta.text}, None, logprobs))
        if delta.finish_reason is not None:
            entries.append(_chunk(choice, {}, delta.finish_reason))
        return entries

    def whole(self, choice: int, deltas: list[Delta]) -> dict[str, Any]:
        content = [entry for delta in deltas for entry in self._content(delta)["content"]] if self._logprobs else None
        return {
            "index": choice,
            "message": {"role": "assistant", "content": "".join(d.text for d in deltas), "refusal": None},
            "logprobs": None if content is None else {"content": content, "refusal": None},
            "finish_reason": deltas[-1].finish_reason,
        }

    def _content(self, delta: Delta) -> dict[str, Any]:
        return {"content": chat_logprobs(self._tokenizer, delta), "refusal": None}


def _chunk(choice: int, delta: dict[str, Any], reason: str | None, logprobs: Any = None) -> dict[str, Any]:
    return {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
