"""Budgets run out by operations, joules or tokens, whichever comes first; what was kept counts as if it were asked."""

from __future__ import annotations

import time

import pytest

from bloomery.adapt.comparison.spending import Spending, processor_seconds, used
from bloomery.adapt.comparison.task import BudgetConfig
from bloomery.adapt.comparison.work import A_SECOND, JOULES, PASS, Work, counted
from bloomery.core.errors import ConfigError
from bloomery.core.messages import ChatAnswer, ChatOptions, Usage, gathered
from bloomery.core.quantity import Quantity
from bloomery.core.run import NoMeter
from bloomery.core.spent import Spent


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


def test_the_budget_is_counted_whatever_the_clock_says():
    spending = Spending(BudgetConfig(processor_seconds=1000), NoMeter())
    spending.add(Spent(processor_seconds=1e6, seconds=1e6))
    assert spending.used == 0.0 and spending.operations_left == 1000 * A_SECOND
    spending.add(counted(999 * A_SECOND))
    assert spending.left and spending.used == pytest.approx(0.999)
    spending.add(counted(2 * A_SECOND))
    assert not spending.left and spending.operations_left == 0


def test_tokens_are_counted_through_the_model():
    spending = Spending(BudgetConfig(processor_seconds=None, tokens=10), NoMeter(), work=Work(read=2.0, write=3.0))

    class Model:
        name = "m"

        def answer(self, messages, options):
            return answer(4)

        def stream(self, messages, options):
            from bloomery.core.messages import ChatDelta

            yield ChatDelta(text="x", usage=answer(4).usage, finish_reason="stop")

    asked = spending.counted(Model())
    assert asked.answer([], ChatOptions()).text == "x" and spending.spent.tokens == 5 and spending.left
    assert spending.tokens_left == 5 and spending.spent.operations == PASS + 4 * 2 + 3
    assert gathered(asked.stream([], ChatOptions())).text == "x"
    assert not spending.left and spending.operations_left is None and asked.name == "m"
    assert spending.tokens_left == 0 and spending.spent.requests == 2


def test_kept_answers_cost_what_they_cost():
    spending = Spending(BudgetConfig(processor_seconds=10), Metered())
    spending.count(answer(3, cached=True, seconds=9.0))
    assert 9 <= spending.spent.processor_seconds < 9.5 and spending.spent.joules.central == 2.0


def test_joules():
    meter = Metered()
    spending = Spending(BudgetConfig(joules=10.0), meter)
    meter.joules = 4.0
    assert spending.used == pytest.approx(0.4) and spending.operations_left == pytest.approx(6.0 / JOULES)
    meter.joules = 12.0
    assert not spending.left
    with pytest.raises(ConfigError, match="joules are unknown"):
        Spending(BudgetConfig(joules=10.0), NoMeter())


def test_nothing_is_nothing():
    assert used(Spent(), BudgetConfig()) == 0.0
