"""Fitting: as many passages as a model's context has room for, beside the question and an answer.

Where the model counts tokens here (`prompt_tokens`, `context_tokens`), the whole prompt is counted as the model will
read it; of a model elsewhere nothing is known before it refuses, and then half is asked. This module does not know what
prompts say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from bloomery.core.asking import TOO_LONG
from bloomery.core.errors import RequestError
from bloomery.core.messages import Message
from bloomery.retrieve.answers.passages import FRAME_TOKENS, CountTokens, Passage, PassageConfig, assemble
from bloomery.retrieve.chunk import Hit

LEAST_TOKENS = 32
"""Of passages: fewer say nothing."""
_ANSWER_SHARE = 4
"""An answer keeps one part in so many of the context, where it may be as long."""


@runtime_checkable
class Measured(Protocol):
    """A chat model that counts what it reads."""

    @property
    def context_tokens(self) -> int: ...

    def prompt_tokens(self, messages: Sequence[Message]) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a model is asked."""

    passages: list[Passage]
    messages: list[Message]
    max_new_tokens: int
    """Of the answer: as asked for, or what is left."""
    budget_tokens: int
    """Of passages, that was kept to."""


def fitted(
    hits: Sequence[Hit],
    config: PassageConfig,
    asked: Callable[[Sequence[Passage]], list[Message]],
    *,
    model: object,
    count: CountTokens,
    max_new_tokens: int,
) -> Fitted:
    """`asked` makes the messages of passages. RequestError where not even a short passage fits."""
    if not isinstance(model, Measured):
        passages = assemble(hits, config, count=count)
        return Fitted(
            passages=passages,
            messages=asked(passages),
            max_new_tokens=max_new_tokens,
            budget_tokens=config.budget_tokens,
        )
    room = model.context_tokens - min(max_new_tokens, model.context_tokens // _ANSWER_SHARE)
    budget = config.budget_tokens
    while True:
        passages = assemble(hits, replace(config, budget_tokens=budget), count=count)
        told = asked(passages)
        tokens = model.prompt_tokens(told)
        if tokens <= room:
            left = min(max_new_tokens, model.context_tokens - tokens)
            return Fitted(passages=passages, messages=told, max_new_tokens=left, budget_tokens=budget)
        if budget <= LEAST_TOKENS:
            raise RequestError(
                f"the question and what stands around it take {model.prompt_tokens(asked(())):,} tokens of the"
                f" {model.context_tokens:,} that the model reads: no passage fits, nor an answer",
                hint="a model with a longer context, or --form extract, which asks none",
                param="question",
                code=TOO_LONG,
            )
        # What a passage's frame takes is a guess: what is over comes off what they take together, again and again.
        taken = sum(count(one.text) + FRAME_TOKENS for one in passages)
        budget = max(LEAST_TOKENS, min(budget, taken) - (tokens - room))


def num_unread(hits: Sequence[Hit], passages: Sequence[Passage]) -> int:
    """How many of the chunks that were found are in no passage; one whose text another has was read with it."""
    read = [chunk for one in passages for chunk in one.chunks]
    ids, texts = {chunk.id for chunk in read}, {_plain(chunk.text) for chunk in read}
    return sum(hit.chunk.id not in ids and _plain(hit.chunk.text) not in texts for hit in hits)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
