"""Spending: what an arm's tuning took so far, against limits that are the same for every arm.

What ends a budget is counted: operations (see `work`), and tokens that the model read and wrote, in training too. The
seconds of this process and its children and the machine's joules are measured beside it; only a limit in joules looks
at them. An arm asks `left` before each step and ends when there is none. This module does not know arms.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence

from bloomery.adapt.comparison.task import BudgetConfig
from bloomery.adapt.comparison.work import A_SECOND, JOULES, PASS, Work
from bloomery.core.errors import ConfigError
from bloomery.core.likelihood import Likelihood, LikelihoodModel, Pair
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatModel, ChatOptions, Message, gathered
from bloomery.core.run import Meter
from bloomery.core.spent import Spent


def processor_seconds() -> float:
    """Of this process, with its children that have ended."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system


class Spending:
    """A budget that runs from its making on. Safe to use from several threads.

    `before` is what earlier attempts at the same work took: it counts. ConfigError for a limit in joules where they are
    unknown.
    """

    def __init__(
        self, limits: BudgetConfig, meter: Meter, *, before: Spent | None = None, work: Work | None = None
    ) -> None:
        self.limits, self.work = limits, work or Work()
        self._meter = meter
        self._before = before or Spent()
        self._began = (processor_seconds(), time.perf_counter(), meter.read())
        self._lock = threading.RLock()
        if limits.joules is not None and not self._began[2].known:
            raise ConfigError("joules are unknown on this machine", hint="[budget] processor_seconds = 300")

    def count(self, answer: ChatAnswer | Likelihood) -> None:
        """An answer of a model: its tokens, and what asking for it took where it was kept from an earlier time."""
        read, written = answer.usage.prompt_tokens or 0, answer.usage.completion_tokens or 0
        took = Spent(
            requests=1,
            prompt_tokens=read,
            completion_tokens=written,
            operations=PASS + self.work.asked(read, written),
        )
        if answer.cached:
            seconds = answer.seconds
            kept = Spent(processor_seconds=seconds, seconds=seconds, joules=answer.usage.energy_joules)
            took = took.plus(kept)
        self.add(took)

    def add(self, spent: Spent) -> None:
        """What clocks and tokens do not tell: operations, and what was paid for before and is used again."""
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
        )
        with self._lock:
            return self._before.plus(now)

    @property
    def used(self) -> float:
        """The share of the limit that is nearest to its end; 1 and more: nothing is left."""
        return used(self.spent, self.limits)

    @property
    def left(self) -> bool:
        return self.used < 1.0

    @property
    def operations_left(self) -> float | None:
        """Until the first limit in time or joules; None without such a limit. Joules that are to come count by
        operations, those that were taken as they were measured."""
        spent, options = self.spent, []
        if self.limits.processor_seconds is not None:
            options.append(self.limits.processor_seconds * A_SECOND - spent.operations)
        if self.limits.joules is not None:
            options.append((self.limits.joules - (spent.joules.central or 0.0)) / JOULES)
        return max(0.0, min(options)) if options else None

    @property
    def tokens_left(self) -> int | None:
        """None without such a limit."""
        return None if self.limits.tokens is None else max(0, self.limits.tokens - (self.spent.tokens or 0))

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
        shares.append(spent.operations / (limits.processor_seconds * A_SECOND))
    if limits.tokens is not None and spent.tokens is not None:
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
