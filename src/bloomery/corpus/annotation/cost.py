"""Cost: what the labels of each annotator took, in tokens, seconds, joules and money, in all and for one label.

Everything that was asked counts, answered or not. What was not measured of one answer is unknown in the sum, never
zero. This module does not know who pays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.quantity import Quantity
from bloomery.corpus.annotation.store import Annotation

_SUMS = ("seconds", "prompt_tokens", "completion_tokens", "money")


@dataclass
class Cost:
    """Sums over everything asked of one annotator; None is unknown. `labels` are documents with an answer."""

    annotator: str
    kind: str
    asked: int = 0
    labels: int = 0
    seconds: float | None = 0.0
    prompt_tokens: float | None = 0
    completion_tokens: float | None = 0
    money: float | None = 0.0
    currency: str = ""
    energy_joules: Quantity = field(default_factory=lambda: Quantity.exact(0.0, "counter"))

    def add(self, one: Annotation) -> None:
        self.asked += 1
        for name in _SUMS:
            so_far, more = getattr(self, name), getattr(one, name)
            setattr(self, name, None if so_far is None or more is None else so_far + more)
        if one.money is not None and self.currency not in ("", one.currency):
            self.money = None  # of two currencies
        self.currency = one.currency or self.currency
        self.energy_joules = self.energy_joules + one.energy_joules

    def to_dict(self) -> dict[str, Any]:
        """With `per_label`: the same sums divided by the labels; None where there are none."""
        sums = {name: getattr(self, name) for name in _SUMS}
        share = 1 / self.labels if self.labels else None
        each = {name: None if value is None or share is None else value * share for name, value in sums.items()}
        joules = self.energy_joules.scaled(share) if share is not None else Quantity.unknown()
        return {
            "annotator": self.annotator,
            "kind": self.kind,
            "asked": self.asked,
            "labels": self.labels,
            **sums,
            "currency": self.currency,
            "energy_joules": self.energy_joules.to_dict(),
            "per_label": {**each, "energy_joules": joules.to_dict()},
        }


def costs(annotations: Iterable[Annotation], *, hour_price: float | None = None, currency: str = "") -> list[Cost]:
    """Of every annotator, by name. `hour_price` is what an hour of a person costs, where answers say no money."""
    found: dict[tuple[str, str], Cost] = {}
    labelled: dict[tuple[str, str], set[str]] = {}
    for one in annotations:
        key = (one.kind, one.annotator)
        if one.kind == "person" and one.money is None and hour_price is not None and one.seconds is not None:
            one = _paid(one, one.seconds / 3600 * hour_price, currency)
        found.setdefault(key, Cost(one.annotator, one.kind)).add(one)
        if one.value is not None:
            labelled.setdefault(key, set()).add(one.item)
    for key, cost in found.items():
        cost.labels = len(labelled.get(key, ()))
    return [found[key] for key in sorted(found)]


def _paid(one: Annotation, money: float, currency: str) -> Annotation:
    from dataclasses import replace

    return replace(one, money=money, currency=currency)
