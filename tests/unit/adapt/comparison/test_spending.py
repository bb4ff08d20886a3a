"""Budgets run out by time, joules or tokens, whichever comes first; what was kept counts as if it were asked."""

from __future__ import annotations

import time

import pytest

from bloomery.adapt.comparison.spending import Spending, Spent, processor_seconds, used
from bloomery.adapt.comparison.task import BudgetConfig
from bloomery.core.errors import ConfigError
from bloomery.core.messages import ChatAnswer, ChatOptions, Usage, gathered
from bloomery.core.quantity import Quantity
from bloomery.core.run import NoMeter


class Metered(NoMeter):
    joules = 0.0

    def read(self):
        return Quantity.exact(self.joules, "counter")


def answer(tokens: int, *, cached: bool = False, seconds: float = 0.0) -> ChatAnswer:
    usage = Usage(prompt_tokens=tokens, completion_tokens=1, energy_joules=Quantity.exact(2.0, "counter"))
    return ChatAnswer(text="x", finish_reason="stop", usage=usage, seconds=seconds, cached=cached)


def test_processor_seconds_are_those_of_work():
    before = processor_seconds()
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert 0.05 <= processor_seconds() - before < 1
    spending = Spending(BudgetConfig(processor_seconds=1000), NoMeter())
    assert spending.left and spending.used < 0.01 and 990 < (spending.processor_seconds_left or 0) <= 1000
    spending.add(Spent(processor_seconds=1000))
    assert not spending.left and spending.processor_seconds_left == 0


def test_tokens_are_counted_through_the_model():
    spending = Spending(BudgetConfig(processor_seconds=None, tokens=10), NoMeter())

    class Model:
        name = "m"

        def answer(self, messages, options):
            return answer(4)

        def stream(self, messages, options):
            from bloomery.core.messages import ChatDelta

            yield ChatDelta(text="x", usage=answer(4).usage, finish_reason="stop")

    counted = spending.counted(Model())
    assert counted.answer([], ChatOptions()).text == "x" and spending.spent.tokens == 5 and spending.left
    assert gathered(counted.stream([], ChatOptions())).text == "x"
    assert not spending.left and spending.processor_seconds_left is None and counted.name == "m"


def test_kept_answers_cost_what_they_cost():
    spending = Spending(BudgetConfig(processor_seconds=10), Metered())
    spending.count(answer(3, cached=True, seconds=9.0))
    assert 9 <= spending.spent.processor_seconds < 9.5 and spending.spent.joules.central == 2.0


def test_joules():
    meter = Metered()
    spending = Spending(BudgetConfig(joules=10.0), meter)
    meter.joules = 4.0
    assert spending.used == pytest.approx(0.4) and spending.processor_seconds_left is not None
    meter.joules = 12.0
    assert not spending.left
    with pytest.raises(ConfigError, match="joules are unknown"):
        Spending(BudgetConfig(joules=10.0), NoMeter())


def test_plain_data_and_sums():
    spent = Spent(processor_seconds=1.0, joules=Quantity.exact(2.0, "counter"), prompt_tokens=3)
    assert Spent.from_dict(spent.to_dict()) == spent
    assert spent.plus(spent).tokens == 6 and not spent.plus(Spent()).joules.known
    assert used(Spent(), BudgetConfig()) == 0.0
