"""Costs: the unit that all tell, totals, fronts and where one arm overtakes another."""

from __future__ import annotations

import pytest

from bloomery.adapt.comparison.economics import break_evens, cheapest_first, cost_of, pareto, unit_of
from bloomery.adapt.comparison.task import ModelConfig, TaskConfig
from bloomery.adapt.comparison.work import JOULES, PASS, Work
from bloomery.core.quantity import Quantity
from bloomery.core.spent import Spent
from bloomery.evaluate.sample import Answered

JOULE = Quantity.exact(1.0, "counter")
FREE = Spent(joules=Quantity.exact(0.0, "counter"))


def answers(joules: Quantity = JOULE, seconds: float = 1.0, tokens: int | None = 10) -> list[Answered]:
    return [
        Answered(
            sample_id=str(n),
            text="x",
            prompt_tokens=tokens,
            completion_tokens=tokens,
            seconds=seconds * (n + 1),
            energy_joules=joules,
        )
        for n in range(4)
    ]


def test_money_is_counted_from_prices_only():
    config = TaskConfig(samples="x", price_per_kwh=0.36, label_price=0.5)
    local = cost_of(answers(), Spent(joules=Quantity.exact(3.6e6, "counter")), 10, config, None)
    assert local.money == pytest.approx(1e-7) and local.training_money == pytest.approx(0.36 + 5)
    assert local.seconds_p50 == 2.5 and local.joules.central == 1.0
    priced = ModelConfig(name="m", endpoint="http://127.0.0.1:1/v1", input_price=1.0, output_price=2.0)
    asked = cost_of(answers(Quantity.unknown()), Spent(prompt_tokens=10**6), 0, config, priced)
    assert asked.money == pytest.approx(3e-5) and asked.training_money == pytest.approx(1.0)
    assert unit_of({"a": local, "b": asked}) == "money"
    bare = cost_of(answers(), FREE, 0, TaskConfig(samples="x"), None)
    assert bare.money is None and unit_of({"a": local, "b": bare}) == "joules"
    unpriced = cost_of(answers(Quantity.unknown(), tokens=None), FREE, 0, config, priced)
    assert unpriced.money is None and not unpriced.joules.known and unpriced.prompt_tokens is None
    assert unit_of({"a": bare, "b": unpriced}) == "seconds"
    assert cost_of(answers(), FREE, 3, TaskConfig(samples="x", price_per_kwh=1.0), None).training_money is None


def costs(**named: tuple[float, float]):
    config = TaskConfig(samples="x")
    return {
        name: cost_of(
            answers(Quantity.exact(each, "counter")), Spent(joules=Quantity.exact(once, "counter")), 0, config, None
        )
        for name, (once, each) in named.items()
    }


def test_break_even_is_where_totals_cross():
    found = costs(lora=(1000.0, 1.0), rag=(0.0, 3.0), zero=(0.0, 2.0))
    pairs = {(one.dear_to_make, one.dear_to_ask): one.requests for one in break_evens(found, "joules")}
    assert pairs == {("lora", "rag"): 500.0, ("lora", "zero"): 1000.0}
    for (make, ask), requests in pairs.items():
        at = round(requests)
        assert found[make].total("joules", at) == pytest.approx(found[ask].total("joules", at))


def counted(**named: tuple[float, float]):
    """Costs of (operations to make, operations of an answer, in passes)."""
    config = TaskConfig(samples="x")
    return {
        name: cost_of(
            answers(), Spent(operations=once * PASS), 0, config, None, Work(read=(each - 1) * PASS / 10, write=0.0)
        )
        for name, (once, each) in named.items()
    }


def test_what_counts_alike_is_ordered_by_how_simple_it_is():
    found = counted(lora=(0.0, 1.0), rag=(0.0, 1.1), majority=(0.0, 3.0))
    kinds = {"lora": "lora", "rag": "rag", "majority": "majority"}
    assert cheapest_first(found, kinds, "joules", 1000) == ["rag", "lora", "majority"]
    assert cheapest_first(counted(lora=(0.0, 1.0), rag=(0.0, 2.5)), kinds, "joules", 1) == ["lora", "rag"]
    assert cheapest_first(counted(lora=(100.0, 1.0), rag=(0.0, 2.0)), kinds, "joules", 10) == ["rag", "lora"]


def test_no_measure_changes_the_order():
    config, kinds = TaskConfig(samples="x"), {"rag": "rag", "lora": "lora"}
    orders = set()
    for slow in (1.0, 7.0, 1000.0):
        joules = Quantity(low=slow, central=2 * slow, high=3 * slow, method="estimated")
        took = Spent(seconds=slow, processor_seconds=slow, joules=joules, operations=100 * PASS)
        lora = cost_of(answers(joules, slow), took, 0, config, None, Work(read=PASS, write=PASS))
        rag = cost_of(answers(), Spent(), 0, config, None, Work(read=9 * PASS, write=PASS))
        assert lora.total("joules", 10) == pytest.approx(22 * slow)  # as measured, which is told
        orders.add(tuple(cheapest_first({"lora": lora, "rag": rag}, kinds, "joules", 1000)))
    assert orders == {("lora", "rag")}


def test_money_orders_by_prices_of_what_is_counted():
    config = TaskConfig(samples="x", price_per_kwh=0.4, label_price=0.1)
    priced = ModelConfig(name="m", endpoint="http://127.0.0.1:1/v1", input_price=1.0, output_price=2.0)
    asked = cost_of(answers(Quantity.unknown()), Spent(), 0, config, priced)
    assert asked.compared("money", 1000) == pytest.approx(3e-2)
    for joules in (1.0, 1e9):  # whatever the meter says
        local = cost_of(answers(Quantity.exact(joules, "counter")), Spent(operations=1e15), 100, config, None)
        kilowatt_hours = (1e15 + 1000 * PASS) * JOULES / 3.6e6
        assert local.compared("money", 1000) == pytest.approx(10 + 0.4 * kilowatt_hours) and local.money is not None


def test_the_front():
    found = costs(a=(0.0, 1.0), b=(0.0, 2.0), c=(0.0, 3.0))
    assert pareto(found, {"a": 0.5, "b": 0.4, "c": 0.9}, "joules") == ["a", "c"]
    assert pareto(found, {"a": 0.5, "b": 0.5, "c": 0.5}, "joules") == ["a"]


def test_an_arm_that_only_fails_is_not_free():
    failed = [Answered(sample_id=str(n), text="", error="too long") for n in range(3)]
    found = cost_of(failed, Spent(), 0, TaskConfig(samples="x"), None, Work())
    assert found.operations == PASS and not found.joules.known
