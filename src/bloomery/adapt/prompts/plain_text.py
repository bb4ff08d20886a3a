"""Plain text: prompts for models that continue a text and know no chat.

A base model has no chat template, so `PlainTextChat` hands it the prompt as one text. This module does not know how
the text is made (see `template`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bloomery.core.messages import ChatDelta, ChatOptions, Message
from bloomery.engine.chat_model import EngineChat, sampling_options


class PlainTextChat(EngineChat):
    """A language model as a `ChatModel` that continues the messages' contents, a blank line between them."""

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        text = "\n\n".join(str(message["content"]) for message in messages if message["content"])
        for delta in self.model.stream(text, **sampling_options(options)):
            yield self._told(delta, options.top_logprobs is not None)
