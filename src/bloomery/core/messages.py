"""Messages: one model to the applications. Messages in, a stream of deltas out, met by our engine and by endpoints.

    answer = model.answer([{"role": "user", "content": "Is this spam? ..."}], ChatOptions(choices=("ham", "spam")))

Annotators, generators and whatever else asks a model take a `ChatModel` and cannot tell whose it is. What a model did
not say (log-probabilities, tokens, joules) is None or unknown, never zero. This module does not know engines or HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity

Message = Mapping[str, Any]
"""`role` (system, user, assistant) and `content`, a text."""
CHOICE_KEY = "answer"
"""Under which a choice stands where a model can only be held to JSON objects."""


class TokenChance(NamedTuple):
    """A token's bytes and the natural logarithm of its probability under the model's unmodified distribution."""

    data: bytes
    logprob: float


@dataclass(frozen=True)
class AnswerToken:
    """A token of an answer, and the most probable ones at its place, itself among them or not."""

    data: bytes
    logprob: float
    top: tuple[TokenChance, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """How an answer is drawn and what form it has. ConfigError for a value out of range."""

    max_new_tokens: int = 512
    """Tokens at most."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float | None = None
    """Only the most probable tokens that make up this share."""
    seed: int | None = None
    """Makes the sampling repeatable, as far as the model's server goes along."""
    stop: tuple[str, ...] = ()
    """Texts before which an answer ends."""
    choices: tuple[str, ...] = ()
    """The answer is one of these; read it with `chosen`."""
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    """The answer is JSON of this schema."""
    top_logprobs: int | None = None
    """How many alternatives to tell for each token; None: no log-probabilities."""

    def __post_init__(self) -> None:
        if self.choices and self.schema is not None:
            raise ConfigError("choices and a schema exclude each other")
        limits = {"max_new_tokens": (1, 1 << 20), "temperature": (0.0, 2.0), "top_p": (0.0, 1.0)}
        limits["top_logprobs"] = (0, 20)
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f'"{name}" is {value}, but should be from {low:,} to {high:,}')

    def plain(self) -> dict[str, Any]:
        """As JSON data, without what is not asked for."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        named |= {"stop": list(self.stop), "choices": list(self.choices)}
        return {name: value for name, value in named.items() if value is not None and value != []}


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an answer took; None and unknown for what nobody said."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    energy_joules: Quantity = field(default_factory=Quantity.unknown)


@dataclass(frozen=True, kw_only=True)
class ChatDelta:
    """A piece of an answer; the last ones carry why it ended and what it took."""

    text: str = ""
    tokens: tuple[AnswerToken, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class ChatAnswer:
    """A whole answer. `tokens` is None where no log-probabilities were told; `seconds` is wall-clock, waiting included;
    `attempts` counts the requests that it took."""

    text: str
    finish_reason: str
    usage: Usage
    seconds: float
    tokens: tuple[AnswerToken, ...] | None = None
    seed: int | None = None
    attempts: int = 1
    cached: bool = False
    """Whether it was kept from an earlier time (`core.answer_cache`); usage and seconds are those of then."""


class ChatModel(Protocol):
    """Safe to use from several threads."""

    @property
    def name(self) -> str:
        """Under which the answers' origin is written down: never a secret."""
        ...

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        """Deltas as they come. RequestError for what the model refuses, or if it does not answer."""
        ...

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        """The whole answer; what can be tried again is."""
        ...


def gathered(deltas: Iterable[ChatDelta], *, began: float | None = None) -> ChatAnswer:
    """A stream as one answer. `began` is when it was asked for (`time.perf_counter()`); None is now."""
    start = time.perf_counter() if began is None else began
    texts: list[str] = []
    tokens: list[AnswerToken] = []
    reason, usage, seed = "", Usage(), None
    for delta in deltas:
        texts.append(delta.text)
        tokens += delta.tokens
        reason, usage = delta.finish_reason or reason, delta.usage or usage
        seed = delta.seed if delta.seed is not None else seed
    seconds = time.perf_counter() - start
    told = tuple(tokens) or None
    return ChatAnswer(text="".join(texts), finish_reason=reason, usage=usage, seconds=seconds, tokens=told, seed=seed)


def choice_schema(choices: Sequence[str]) -> dict[str, Any]:
    """The JSON schema of an answer that is one of the choices, for models that know schemas only."""
    properties = {CHOICE_KEY: {"type": "string", "enum": list(choices)}}
    return {"type": "object", "properties": properties, "required": [CHOICE_KEY], "additionalProperties": False}


def chosen(text: str, choices: Sequence[str]) -> str | None:
    """The choice that an answer is, as it is or in the form of `choice_schema`; None for anything else.

    White space around it is nothing; a choice within a sentence is no choice.
    """
    bare = text.strip()
    if bare in choices:
        return bare
    try:
        value = json.loads(bare)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and list(value) == [CHOICE_KEY] and value[CHOICE_KEY] in choices:
        return value[CHOICE_KEY]
    return None
