"""Spending: what an arm's tuning took so far, against limits that are the same for every arm.

Processor seconds are those of this process and its children; joules are the machine's meter's; tokens are those that
the model was asked for. An arm asks `left` before each step and ends when there is none. This module does not know
arms.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.adapt.comparison.task import BudgetConfig
from bloomery.core.errors import ConfigError
from bloomery.core.likelihood import Likelihood, LikelihoodModel, Pair
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatModel, ChatOptions, Message, gathered
from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter


def processor_seconds() -> float:
    """Of this process, with its children that have ended."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What something took."""

    processor_seconds: float = 0.0
    seconds: float = 0.0
    """Wall-clock."""
    joules: Quantity = field(default_factory=Quantity.unknown)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def to_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "joules"}
        return {**plain, "joules": self.joules.to_dict()}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Spent:
        return cls(**{**value, "joules": Quantity.from_dict(value["joules"])})

    def plus(self, other: Spent) -> Spent:
        """The sum; seconds too, as if one came after the other."""
        names = ("processor_seconds", "seconds", "prompt_tokens", "completion_tokens")
        summed = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Spent(**summed, joules=self.joules + other.joules)


class Spending:
    """A budget that runs from its making on. Safe to use from several threads.

    `before` is what earlier attempts at the same work took: it counts. ConfigError for a limit in joules where they are
    unknown.
    """

    def __init__(self, limits: BudgetConfig, meter: Meter, *, before: Spent | None = None) -> None:
        self.limits = limits
        self._meter = meter
        self._before = before or Spent(joules=Quantity.exact(0.0, "counter"))
        self._began = (processor_seconds(), time.perf_counter(), meter.read())
        self._lock = threading.RLock()
        self._prompt = self._completion = 0
        if limits.joules is not None and not self._began[2].known:
            raise ConfigError("joules are unknown on this machine", hint="[budget] processor_seconds = 300")

    def count(self, answer: ChatAnswer | Likelihood) -> None:
        """An answer of a model: its tokens, and what asking for it took where it was kept from an earlier time."""
        usage = answer.usage
        with self._lock:
            self._prompt += usage.prompt_tokens or 0
            self._completion += usage.completion_tokens or 0
        if answer.cached:
            took = answer.seconds
            self.add(Spent(processor_seconds=took, seconds=took, joules=usage.energy_joules))

    def add(self, spent: Spent) -> None:
        """What was paid for before, and is used again."""
        with self._lock:
            self._before = self._before.plus(spent)

    @property
    def spent(self) -> Spent:
        """So far, earlier attempts included."""
        processor, wall, joules = self._began
        now = Spent(
            processor_seconds=processor_seconds() - processor,
            seconds=time.perf_counter() - wall,
            joules=self._meter.read() - joules,
            prompt_tokens=self._prompt,
            completion_tokens=self._completion,
        )
        return self._before.plus(now)

    @property
    def used(self) -> float:
        """The share of the limit that is nearest to its end; 1 and more: nothing is left."""
        return used(self.spent, self.limits)

    @property
    def left(self) -> bool:
        return self.used < 1.0

    @property
    def processor_seconds_left(self) -> float | None:
        """Until the first limit in time or joules, at the rate so far; None without such a limit."""
        spent, options = self.spent, []
        if self.limits.processor_seconds is not None:
            options.append(self.limits.processor_seconds - spent.processor_seconds)
        if self.limits.joules is not None and spent.joules.central is not None and spent.processor_seconds > 0:
            rate = spent.joules.central / spent.processor_seconds
            options.append((self.limits.joules - spent.joules.central) / rate if rate else self.limits.joules)
        return max(0.0, min(options)) if options else None

    def counted(self, model: ChatModel) -> ChatModel:
        """The same model, whose tokens count here."""
        return _Counted(model, self)

    def counted_likelihoods(self, model: LikelihoodModel) -> LikelihoodModel:
        """The same for likelihoods."""
        return _CountedLikelihoods(model, self)


def used(spent: Spent, limits: BudgetConfig) -> float:
    """The share of the limit that is nearest to its end."""
    shares = [0.0]
    if limits.processor_seconds is not None:
        shares.append(spent.processor_seconds / limits.processor_seconds)
    if limits.tokens is not None:
        shares.append(spent.tokens / limits.tokens)
    if limits.joules is not None and spent.joules.central is not None:
        shares.append(spent.joules.central / limits.joules)
    return max(shares)


class _Counted:
    def __init__(self, model: ChatModel, spending: Spending) -> None:
        self.model, self._spending = model, spending

    @property
    def name(self) -> str:
        return self.model.name

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        found = self.model.answer(messages, options)
        self._spending.count(found)
        return found

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        deltas = []
        for delta in self.model.stream(messages, options):
            deltas.append(delta)
            yield delta
        self._spending.count(gathered(deltas))


class _CountedLikelihoods:
    def __init__(self, model: LikelihoodModel, spending: Spending) -> None:
        self.model, self._spending = model, spending

    @property
    def name(self) -> str:
        return self.model.name

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        yield from self._told(self.model.likelihoods(pairs))

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        yield from self._told(self.model.rolling(texts))

    def _told(self, found: Iterator[tuple[int, Likelihood]]) -> Iterator[tuple[int, Likelihood]]:
        for place, one in found:
            self._spending.count(one)
            yield place, one
