"""Budget: limits of what asking models may take, held before a request goes out, and what is left of them.

    budget = Budget(BudgetConfig(tokens=100_000, money=2.0, prompt_price=0.5, completion_price=1.5))
    model = BudgetedChat(model, budget)

A request is let out only if what it can take at most is left beside what is under way: tokens and money by the length
of its messages and its limit of new tokens, joules and seconds by the dearest request so far. Money is counted only by
prices that the user gives. A limit of something that nobody tells is an error, not zero. Several models, and threads,
may share a budget. This module does not know what is asked or why.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from bloomery.core.errors import BloomeryError, ConfigError
from bloomery.core.likelihood import Likelihood, LikelihoodModel, Pair
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatModel, ChatOptions, Message, Usage, gathered
from bloomery.core.spent import Spent

NAMES = ("requests", "tokens", "joules", "seconds", "money")
_TOKENS_A_MESSAGE = 16
"""What a chat template may put around one."""
_Tell = Callable[[Usage, float], None]
_PAIRS_AT_ONCE = 32
"""Of likelihoods, that room is made for together."""
_MARGIN = 1.25
"""Tokens a byte vary between prompts: by so much more than the most so far."""


class BudgetError(BloomeryError):
    """What is left of a budget does not suffice; `name` says of what."""

    def __init__(self, message: str, *, name: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.name = name


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """Limits; None: no limit. ConfigError for one that is none, or for money without prices."""

    requests: int | None = None
    tokens: int | None = None
    """Of prompts and answers together."""
    joules: float | None = None
    """By the central value of what is told."""
    seconds: float | None = None
    """That requests take, each for itself: two at once count twice."""
    money: float | None = None
    """In whatever the prices are in."""
    prompt_price: float | None = None
    """For a million tokens of prompts."""
    completion_price: float | None = None
    """For a million tokens of answers."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not (0 <= value < math.inf):
                raise ConfigError(f'"{name}" of a budget should be 0 or more, not {value}')
        if self.money is not None and (self.prompt_price is None or self.completion_price is None):
            raise ConfigError("a budget of money needs prices", hint="prompt_price and completion_price, for a million")

    def price(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        """None where there are no prices."""
        if self.prompt_price is None or self.completion_price is None:
            return None
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6


class Budget:
    """See the module. Safe to use from several threads."""

    def __init__(self, config: BudgetConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._spent = Spent()
        self._reserved: dict[str, float] = dict.fromkeys(NAMES, 0.0)
        self._dearest: dict[str, float] = {"joules": 0.0, "seconds": 0.0}
        self._tokens_a_byte = 0.0

    @property
    def spent(self) -> Spent:
        """So far; what is under way is not in it."""
        with self._lock:
            return self._spent

    def left(self) -> dict[str, float | None]:
        """Of each limit: what may still be taken, what is under way counted as taken. None: no limit."""
        with self._lock:
            return {name: self._left(name) for name in NAMES}

    def _left(self, name: str) -> float | None:
        limit = getattr(self.config, name)
        if limit is None:
            return None
        spent = self._spent.amount(name)
        if spent is None:
            raise BudgetError(f"a budget of {name} cannot be kept: the model does not tell them", name=name)
        return max(0.0, limit - spent - self._reserved[name])

    @contextmanager
    def request(
        self, prompt_bytes: int, messages: int, max_new_tokens: int
    ) -> Iterator[Callable[[Usage, float], None]]:
        """Within, a request may go out; what is yielded is told its usage and seconds. BudgetError before, if what it
        may take is not left."""
        with self._lock:
            needed = self._needed(prompt_bytes, messages, max_new_tokens)
            for name, amount in needed.items():
                left = self._left(name)
                if left is not None and (amount > left or left <= 0):
                    what = f"{name}: {left:,.6g} left of {getattr(self.config, name):,.6g}, up to {amount:,.6g} needed"
                    raise BudgetError(f"the budget does not suffice; {what}", name=name, hint="raise the limit")
            for name, amount in needed.items():
                self._reserved[name] += amount
        told = False

        def tell(usage: Usage, seconds: float) -> None:
            nonlocal told
            told = True
            self._take(usage, seconds, prompt_bytes)

        began = time.perf_counter()
        try:
            yield tell
        finally:
            with self._lock:
                for name, amount in needed.items():
                    self._reserved[name] -= amount
                if not told:  # it went out, and what it took nobody says: the time is known
                    self._spent = self._spent.plus(Spent(requests=1, seconds=time.perf_counter() - began))

    def _needed(self, prompt_bytes: int, messages: int, max_new_tokens: int) -> dict[str, float]:
        """At most. No tokenizer makes more tokens than bytes; how many fewer is learnt from what was asked before."""
        share = 1.0 if not self._tokens_a_byte else min(1.0, self._tokens_a_byte * _MARGIN)
        prompt = math.ceil(prompt_bytes * share) + messages * _TOKENS_A_MESSAGE
        money = self.config.price(prompt, max_new_tokens)
        return {"requests": 1.0, "tokens": float(prompt + max_new_tokens), **self._dearest, "money": money or 0.0}

    def _take(self, usage: Usage, seconds: float, prompt_bytes: int) -> None:
        prompt, completion, joules = usage.prompt_tokens, usage.completion_tokens, usage.energy_joules
        money = None if prompt is None or completion is None else self.config.price(prompt, completion)
        took = Spent(
            requests=1,
            prompt_tokens=prompt,
            completion_tokens=completion,
            seconds=seconds,
            joules=joules,
            money=money,
        )
        with self._lock:
            self._spent = self._spent.plus(took)
            if prompt is not None:
                self._tokens_a_byte = max(self._tokens_a_byte, prompt / max(1, prompt_bytes))
            self._dearest["seconds"] = max(self._dearest["seconds"], seconds)
            self._dearest["joules"] = max(self._dearest["joules"], joules.central or 0.0)


class BudgetedChat:
    """A `ChatModel` that asks another as long as the budget lasts; answers that were kept cost nothing."""

    def __init__(self, model: ChatModel, budget: Budget) -> None:
        self.model, self.budget = model, budget

    @property
    def name(self) -> str:
        return self.model.name

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        """BudgetError, before asking, if what is left may not suffice."""
        with self.budget.request(*_size(messages), options.max_new_tokens) as tell:
            answer = self.model.answer(messages, options)
            tell(answer.usage, answer.seconds)
        return answer

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        """The same. Of a stream that is closed before its end the request and its seconds are counted."""
        began = time.perf_counter()
        with self.budget.request(*_size(messages), options.max_new_tokens) as tell:
            deltas: list[ChatDelta] = []
            for delta in self.model.stream(messages, options):
                deltas.append(delta)
                yield delta
            answer = gathered(deltas, began=began)
            tell(answer.usage, answer.seconds)


class BudgetedLikelihoods:
    """A `LikelihoodModel` that asks another as long as the budget lasts. A request is a text that is scored."""

    def __init__(self, model: LikelihoodModel, budget: Budget) -> None:
        self.model, self.budget = model, budget

    @property
    def name(self) -> str:
        return self.model.name

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        """BudgetError, before asking, if what is left may not suffice for the next few; those before have been told."""
        sizes = [_bytes(pair.context) + _bytes(pair.continuation) for pair in pairs]
        yield from self._asked(sizes, lambda part: self.model.likelihoods(pairs[part]), _PAIRS_AT_ONCE)

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        """The same, text by text."""
        yield from self._asked([_bytes(text) for text in texts], lambda part: self.model.rolling(texts[part]), 1)

    def _asked(
        self, sizes: Sequence[int], ask: Callable[[slice], Iterator[tuple[int, Likelihood]]], at_once: int
    ) -> Iterator[tuple[int, Likelihood]]:
        start, several = 0, 1  # the first ones teach how many tokens a text has, so that room is made for no more
        while start < len(sizes):
            part = slice(start, min(start + several, len(sizes)))
            with ExitStack() as room:  # each is told for itself: what a text takes is learnt from texts
                tell = [room.enter_context(self.budget.request(size, 1, 0)) for size in sizes[part]]
                for number, found in ask(part):
                    tell[number](found.usage, found.seconds)
                    yield start + number, found
            start, several = part.stop, min(2 * several, at_once)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _size(messages: Sequence[Message]) -> tuple[int, int]:
    """(bytes of the texts, number of messages)."""
    return sum(_bytes(str(message.get("content") or "")) for message in messages), len(messages)
