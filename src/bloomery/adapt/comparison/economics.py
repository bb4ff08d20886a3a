"""Economics: what an arm costs to make and to ask, as one unit that all arms tell, and where one overtakes another.

The unit is money where every arm's can be counted from prices that the user gave, else joules where every arm's are
known, else seconds. Unknown is never zero. Arms stand in the order of what is counted (tokens, labels, operations), not
of what was measured, so that the verdict is the same tomorrow. This module does not know scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from bloomery.adapt.comparison.task import ARMS, ModelConfig, TaskConfig
from bloomery.adapt.comparison.work import JOULES, Work
from bloomery.core.quantity import Quantity
from bloomery.core.spent import Spent
from bloomery.evaluate.sample import Answered

Unit = Literal["money", "joules", "seconds"]
ALIKE = 2.0
"""Costs that differ by less than this factor count as alike: counts are no better."""
UNIT_SIGNS: Mapping[str, str] = {"money": "", "joules": "J", "seconds": "s"}
_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of an arm. `None` and unknown where nobody told."""

    answers: int
    prompt_tokens: float | None
    """A mean over answers, as the next two."""
    completion_tokens: float | None
    joules: Quantity
    seconds: float
    seconds_p50: float
    seconds_p95: float
    operations: float
    """Of an answer, counted: what arms are ordered by."""
    money: float | None
    """Of an answer: tokens by their prices, or this machine's joules by the kilowatt-hour's."""
    training: Spent
    training_money: float | None
    """Labels, tokens and joules, by their prices."""
    labels: int
    counted_money: tuple[float, float] | None = None
    """(to make, of an answer) with joules as they are counted; None where there are no prices."""

    def per_answer(self, unit: Unit) -> float | None:
        return {"money": self.money, "joules": self.joules.central, "seconds": self.seconds}[unit]

    def to_make(self, unit: Unit) -> float | None:
        spent = self.training
        return {"money": self.training_money, "joules": spent.joules.central, "seconds": spent.seconds}[unit]

    def total(self, unit: Unit, requests: int) -> float | None:
        """Made, and asked so often."""
        one, once = self.per_answer(unit), self.to_make(unit)
        return None if one is None or once is None else once + requests * one

    def compared(self, unit: Unit, requests: int) -> float:
        """The total by which arms are ordered: money where the unit is money, else operations."""
        once, one = self.training.operations, self.operations
        if unit == "money" and self.counted_money is not None:
            once, one = self.counted_money
        return once + requests * one

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "joules": self.joules.to_dict(), "training": self.training.to_dict()}


def cost_of(
    answers: Sequence[Answered],
    training: Spent,
    labels: int,
    config: TaskConfig,
    model: ModelConfig | None,
    work: Work | None = None,
) -> Cost:
    """What an arm's answers and its making took. An arm that asks no model writes no tokens; what failed before a model
    said anything is in no mean."""
    seconds = np.array([one.seconds for one in answers] or [0.0])
    said = [one for one in answers if not one.error or one.calls]
    joules = Quantity.exact(0.0, "counter")
    for one in said:
        joules = joules + one.energy_joules
    joules = joules.scaled(1 / max(1, len(said))) if said or not answers else Quantity.unknown()
    operations = (work or Work()).answering(said or answers) / max(1, len(said or answers))
    read, written = (_mean([getattr(one, f"{name}_tokens") for one in said]) for name in ("prompt", "completion"))
    return Cost(
        answers=len(answers),
        prompt_tokens=read,
        completion_tokens=written,
        joules=joules,
        seconds=float(seconds.mean()),
        seconds_p50=float(np.percentile(seconds, 50)),
        seconds_p95=float(np.percentile(seconds, 95)),
        operations=operations,
        money=_money(read, written, joules, config, model),
        training=training,
        training_money=_training_money(training, labels, config, model),
        labels=labels,
        counted_money=_counted_money(read, written, operations, training, labels, config, model),
    )


def _counted_money(
    read: float | None,
    written: float | None,
    operations: float,
    training: Spent,
    labels: int,
    config: TaskConfig,
    model: ModelConfig | None,
) -> tuple[float, float] | None:
    joules = Quantity.exact(JOULES, "estimated")
    as_counted = replace(training, joules=joules.scaled(training.operations))
    once = _training_money(as_counted, labels, config, model)
    one = _money(read, written, joules.scaled(operations), config, model)
    return None if once is None or one is None else (once, one)


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _money(
    read: float | None, written: float | None, joules: Quantity, config: TaskConfig, model: ModelConfig | None
) -> float | None:
    if model is not None and model.input_price is not None and model.output_price is not None:
        if read is None or written is None:
            return None
        return (read * model.input_price + written * model.output_price) / 1e6
    if config.price_per_kwh is None or joules.central is None or (model is not None and model.endpoint):
        return None
    return joules.central / _JOULES_PER_KWH * config.price_per_kwh


def _training_money(spent: Spent, labels: int, config: TaskConfig, model: ModelConfig | None) -> float | None:
    tuned = _money(spent.prompt_tokens, spent.completion_tokens, spent.joules, config, model)
    if tuned is None or (labels and config.label_price is None):
        return None
    return tuned + labels * (config.label_price or 0.0)


def amount(arm: Mapping[str, Any], unit: str, *, make: bool = False) -> float | None:
    """Of an answer, or to make the arm, from the result's JSON data; None where it is unknown."""
    cost = arm["cost"]
    if unit == "money":
        return cost["training_money" if make else "money"]
    source = cost["training"] if make else cost
    return source["joules"]["central"] if unit == "joules" else source["seconds"]


def unit_of(costs: Mapping[str, Cost]) -> Unit:
    """The first unit in which every arm's cost is known."""
    units: tuple[Unit, ...] = ("money", "joules")
    for unit in units:
        if all(one.total(unit, 1) is not None for one in costs.values()):
            return unit
    return "seconds"


def cheapest_first(costs: Mapping[str, Cost], arms: Mapping[str, str], unit: Unit, requests: int) -> list[str]:
    """Arms by what making and asking them `requests` times counts; of those that cost alike the simpler first. `arms`
    gives each its kind."""
    waiting = {name: one.compared(unit, requests) for name, one in costs.items()}
    found = []
    while waiting:
        edge = min(waiting.values()) * ALIKE
        alike = [name for name, total in waiting.items() if total <= edge]
        first = min(alike, key=lambda name: (ARMS.index(arms[name]), name))
        found.append(first)
        del waiting[first]
    return found


def pareto(costs: Mapping[str, Cost], quality: Mapping[str, float], unit: Unit) -> list[str]:
    """Arms that no other is both as good as and as cheap per answer as, and better in one of the two."""
    points = {name: (quality[name], one.per_answer(unit) or 0.0) for name, one in costs.items()}

    def dominated(name: str) -> bool:
        worth, cost = points[name]
        return any(w >= worth and c <= cost and (w > worth or c < cost) for w, c in points.values())

    return [name for name in points if not dominated(name)]


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """From so many requests on, `dear_to_make` has cost less than `dear_to_ask`."""

    dear_to_make: str
    dear_to_ask: str
    requests: float


def break_evens(costs: Mapping[str, Cost], unit: Unit) -> list[BreakEven]:
    """Of every two arms of which one costs more to make and less to ask."""
    found = []
    for one, other in ((a, b) for a in costs for b in costs if a != b):
        make, make_other = costs[one].to_make(unit), costs[other].to_make(unit)
        ask, ask_other = costs[one].per_answer(unit), costs[other].per_answer(unit)
        if make is None or make_other is None or ask is None or ask_other is None:
            continue
        if make > make_other and ask < ask_other:
            requests = (make - make_other) / (ask_other - ask)
            found.append(BreakEven(dear_to_make=one, dear_to_ask=other, requests=requests))
    return sorted(found, key=lambda pair: pair.requests)
