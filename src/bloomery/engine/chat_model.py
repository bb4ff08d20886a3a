"""Chat model: our engine behind the one protocol that applications ask models by (`core.messages`).

This module does not know who asks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from bloomery.core.messages import (
    AnswerToken,
    ChatAnswer,
    ChatDelta,
    ChatOptions,
    Message,
    TokenChance,
    Usage,
    gathered,
)
from bloomery.engine.language_model import LanguageModel, Prompt, SamplingOptions
from bloomery.engine.results import Delta, TokenLogprob


class EngineChat:
    """A language model as a `ChatModel`. Questions asked from several threads are computed together."""

    def __init__(self, model: LanguageModel, *, identity: str = "", plain: bool = False) -> None:
        """`identity` tells the weights apart where the name does not: an artifact's id, for example. `plain`: the
        messages' texts are one prompt, which the model goes on from; no chat template is asked for."""
        self.model = model
        self._identity = identity
        self._plain = plain

    @property
    def name(self) -> str:
        return self._identity or self.model.name

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        began = time.perf_counter()
        return gathered(self.stream(messages, options), began=began)

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        """RequestErrors of the engine; one that has no chat template cannot be asked."""
        for delta in self.model.stream(self._prompt(messages), **sampling_options(options)):
            yield self._told(delta, options.top_logprobs is not None)

    @property
    def context_tokens(self) -> int:
        """Tokens of a question and its answer at most."""
        return min(self.model.context_length, self.model.engine.capacity)

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        """How many tokens the model reads for these messages, also where they are more than it can. RequestError of a
        model that has no chat template."""
        asked, tokenizer = self._prompt(messages), self.model.tokenizer
        if isinstance(asked, str):
            return len(tokenizer.encode(asked, add_bos=tokenizer.adds_bos))
        return len(tokenizer.encode_chat(asked))  # type: ignore[arg-type]

    def _prompt(self, messages: Sequence[Message]) -> Prompt:
        if self._plain:
            return "".join(message["content"] for message in messages)
        return [{"role": message["role"], "content": message["content"]} for message in messages]

    def _told(self, delta: Delta, logprobs: bool) -> ChatDelta:
        result = delta.result
        usage = seed = None
        if result is not None:
            usage = Usage(
                prompt_tokens=result.prompt_tokens,
                completion_tokens=result.completion_tokens,
                energy_joules=result.energy,
            )
            seed = result.seed
        tokens = tuple(self._tokens(delta)) if logprobs else ()
        return ChatDelta(text=delta.text, tokens=tokens, finish_reason=delta.finish_reason, usage=usage, seed=seed)

    def _tokens(self, delta: Delta) -> Iterator[AnswerToken]:
        """The token that ends a turn is none of the answer's."""
        tops = delta.top_logprobs or ((),) * len(delta.token_ids)
        for token_id, logprob, top in zip(delta.token_ids, delta.logprobs, tops, strict=True):
            if token_id not in self.model.tokenizer.special_ids:
                named = tuple(self._chance(one) for one in top)
                yield AnswerToken(self._chance(TokenLogprob(token_id, logprob)).data, logprob, named)

    def _chance(self, one: TokenLogprob) -> TokenChance:
        return TokenChance(self.model.tokenizer.token_bytes(one.token_id) or b"", one.logprob)


def sampling_options(options: ChatOptions) -> SamplingOptions:
    """The engine's names for what is asked."""
    given: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "seed": options.seed,
        "stop": list(options.stop) or None,
        "logprobs": options.top_logprobs,
    }
    if options.choices:
        given["constraint"] = {"choice": list(options.choices)}
    elif options.schema is not None:
        given["constraint"] = {"json_schema": dict(options.schema)}
    return SamplingOptions(**given)
