"""A model that says what a function of the test makes of each question, and keeps what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, Usage
from bloomery.core.quantity import Quantity

Says = Callable[[Sequence[Message], ChatOptions], str]


class ScriptedModel:
    """Meets ChatModel: a token a word, two joules and half a second for each answer."""

    name = "scripted"

    def __init__(self, says: Says, *, usage: bool = True) -> None:
        self._says, self._usage = says, usage
        self.asked: list[tuple[list[dict[str, Any]], ChatOptions]] = []
        self._lock = threading.Lock()

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        with self._lock:
            self.asked.append(([dict(one) for one in messages], options))
        text = self._says(messages, options)
        words = sum(len(str(one["content"]).split()) for one in messages)
        usage = Usage(
            prompt_tokens=words,
            completion_tokens=len(text.split()),
            energy_joules=Quantity.exact(2.0, "counter"),
        )
        return ChatAnswer(text=text, finish_reason="stop", usage=usage if self._usage else Usage(), seconds=0.5)

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        yield ChatDelta(text=self.answer(messages, options).text, finish_reason="stop")


@pytest.fixture
def scripted() -> type[ScriptedModel]:
    return ScriptedModel
