"""Budgets: nothing goes out that may cost more than is left, whoever asks at once; prices as they are published."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from bloomery.core.budget import Budget, BudgetConfig, BudgetedChat, BudgetedLikelihoods, BudgetError
from bloomery.core.errors import ConfigError
from bloomery.core.likelihood import Likelihood, Pair
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Message, Usage
from bloomery.core.quantity import Quantity

OPTIONS = ChatOptions(max_new_tokens=10, temperature=0.0)
ASKED = [{"role": "user", "content": "0123456789"}]


class Counting:
    """A model that says what it takes: 4 tokens read, 6 written, 2 J, 0.01 s."""

    name = "counting"

    def __init__(self, usage: Usage | None = None, wait: float = 0.0) -> None:
        joules = Quantity.exact(2.0, "counter")
        self.usage = usage or Usage(prompt_tokens=4, completion_tokens=6, energy_joules=joules)
        self.asked, self._wait, self._lock = 0, wait, threading.Lock()

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
        with self._lock:
            self.asked += 1
        time.sleep(self._wait)
        return ChatAnswer(text="so", finish_reason="stop", usage=self.usage, seconds=0.01)

    def stream(self, messages: Sequence[Message], options: ChatOptions) -> Iterator[ChatDelta]:
        self.asked += 1
        yield ChatDelta(text="s")
        yield ChatDelta(text="o", finish_reason="stop", usage=self.usage)


def until_refused(config: BudgetConfig) -> tuple[int, BudgetError]:
    model = Counting()
    asked = BudgetedChat(model, Budget(config))
    with pytest.raises(BudgetError) as caught:
        for _ in range(1000):
            asked.answer(ASKED, OPTIONS)
    assert "\n" not in caught.value.one_line()
    return model.asked, caught.value


@pytest.mark.parametrize(
    ("config", "answers", "name"),
    [
        (BudgetConfig(requests=3), 3, "requests"),
        # The first may take 10 + 16 + 10; then a byte is known to be 0.4 tokens, 0.5 with the margin: 5 + 16 + 10.
        (BudgetConfig(tokens=60), 3, "tokens"),
        (BudgetConfig(tokens=35), 0, "tokens"),
        (BudgetConfig(joules=7.0), 3, "joules"),
        (BudgetConfig(seconds=0.055), 5, "seconds"),
        (BudgetConfig(requests=0), 0, "requests"),
    ],
)
def test_refuses_before_more_is_spent(config: BudgetConfig, answers: int, name: str):
    asked, error = until_refused(config)
    assert asked == answers and error.name == name


def test_money_is_counted_by_the_prices_given():
    # 4 tokens at 1.25 and 6 at 10 a million, as a published price list has them: 65 millionths a request.
    config = BudgetConfig(money=0.001, prompt_price=1.25, completion_price=10.0)
    budget = Budget(config)
    asked = BudgetedChat(Counting(), budget)
    for _ in range(10):
        asked.answer(ASKED, OPTIONS)
    assert budget.spent.money == pytest.approx(650e-6)
    assert budget.left()["money"] == pytest.approx(350e-6)
    assert budget.left()["tokens"] is None and budget.spent.tokens == 100
    with pytest.raises(ConfigError, match="prices"):
        BudgetConfig(money=1.0)
    with pytest.raises(ConfigError):
        BudgetConfig(tokens=-1)


def test_what_nobody_tells_is_no_zero():
    for config in (BudgetConfig(tokens=1000), BudgetConfig(joules=1000.0)):
        asked = BudgetedChat(Counting(Usage()), Budget(config))
        asked.answer(ASKED, OPTIONS)  # nothing is known before
        with pytest.raises(BudgetError, match="does not tell"):
            asked.answer(ASKED, OPTIONS)
    budget = Budget(BudgetConfig(requests=5))
    BudgetedChat(Counting(Usage()), budget).answer(ASKED, OPTIONS)
    assert budget.spent.tokens is None and not budget.spent.joules.known


def test_many_at_once_do_not_overspend():
    model, budget = Counting(wait=0.02), Budget(BudgetConfig(requests=7))
    asked, refused = BudgetedChat(model, budget), []

    def ask() -> None:
        try:
            asked.answer(ASKED, OPTIONS)
        except BudgetError as error:
            refused.append(error)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert model.asked == budget.spent.requests == 7 and len(refused) == 13
    assert budget.left()["requests"] == 0


def test_streams_and_failures_are_counted():
    class Failing(Counting):
        def answer(self, messages: Sequence[Message], options: ChatOptions) -> ChatAnswer:
            raise RuntimeError("gone")

    budget = Budget(BudgetConfig(requests=3))
    assert "".join(delta.text for delta in BudgetedChat(Counting(), budget).stream(ASKED, OPTIONS)) == "so"
    assert budget.spent.tokens == 10
    with contextlib.closing(BudgetedChat(Counting(), budget).stream(ASKED, OPTIONS)) as stream:  # type: ignore[type-var]
        next(stream)
    with pytest.raises(RuntimeError):
        BudgetedChat(Failing(), budget).answer(ASKED, OPTIONS)
    assert budget.spent.requests == 3 and budget.spent.tokens == 10


class Reads:
    """Finds every text as likely as it is long, the last first, and reads a token a byte."""

    name = "reads"

    def __init__(self) -> None:
        self.read = 0

    def likelihoods(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Likelihood]]:
        for place in reversed(range(len(pairs))):
            length = len("".join(pairs[place]))
            self.read += length
            usage = Usage(prompt_tokens=length, completion_tokens=0)
            yield place, Likelihood(nats=-float(length), tokens=1, greedy=False, usage=usage, seconds=0.01)

    def rolling(self, texts: Sequence[str]) -> Iterator[tuple[int, Likelihood]]:
        yield from self.likelihoods([Pair("", text) for text in texts])


def test_scored_texts_are_counted_and_keep_their_places():
    pairs = [Pair("a" * n, "b") for n in range(1, 101)]
    budget = Budget(BudgetConfig(tokens=100_000))
    found = dict(BudgetedLikelihoods(Reads(), budget).likelihoods(pairs))
    assert [found[n].nats for n in range(100)] == [-float(n + 2) for n in range(100)]
    assert budget.spent.tokens == sum(n + 2 for n in range(100)) and budget.spent.requests == 100
    texts = dict(BudgetedLikelihoods(Reads(), Budget(BudgetConfig(tokens=500))).rolling(["abc", "d"]))
    assert (texts[0].nats, texts[1].nats) == (-3.0, -1.0)


@pytest.mark.parametrize("config", [BudgetConfig(tokens=900), BudgetConfig(requests=13)])
def test_scored_texts_end_before_more_is_spent(config: BudgetConfig):
    model, told = Reads(), list[tuple[int, Likelihood]]()
    with pytest.raises(BudgetError):
        told.extend(BudgetedLikelihoods(model, Budget(config)).likelihoods([Pair("a" * 29, "b")] * 100))
    assert 0 < len(told) < 100 and model.read == 30 * len(told) <= 900
    assert config.requests is None or len(told) <= 13
