"""Spent: what something took: requests, tokens, operations, time, energy, money. This module does not know limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bloomery.core.quantity import Quantity

N = TypeVar("N", int, float)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Sums, nothing by default. What was not told is None or unknown, never zero, and so is every sum with it."""

    requests: int = 0
    prompt_tokens: int | None = 0
    """Read, in training too."""
    completion_tokens: int | None = 0
    operations: float = 0.0
    """Floating-point operations by counting: no clock, and no other program on the machine, has a part in them."""
    processor_seconds: float = 0.0
    seconds: float = 0.0
    """Wall-clock."""
    joules: Quantity = field(default_factory=lambda: Quantity.exact(0.0, "counter"))
    money: float | None = 0.0
    """In whatever the prices were in."""

    @property
    def tokens(self) -> int | None:
        """Read and written."""
        return _sum(self.prompt_tokens, self.completion_tokens)

    def amount(self, name: str) -> float | None:
        """Of a limit by its name; None where it was not told."""
        value = self.joules.central if name == "joules" else getattr(self, name)
        return None if value is None else float(value)

    def plus(self, other: Spent) -> Spent:
        """The sum; seconds too, as if one came after the other."""
        return Spent(
            requests=self.requests + other.requests,
            prompt_tokens=_sum(self.prompt_tokens, other.prompt_tokens),
            completion_tokens=_sum(self.completion_tokens, other.completion_tokens),
            operations=self.operations + other.operations,
            processor_seconds=self.processor_seconds + other.processor_seconds,
            seconds=self.seconds + other.seconds,
            joules=self.joules + other.joules,
            money=_sum(self.money, other.money),
        )

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "tokens": self.tokens, "joules": self.joules.to_dict()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Spent:
        known = {name: one for name, one in value.items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "joules": Quantity.from_dict(value["joules"])})


def _sum(one: N | None, other: N | None) -> N | None:
    return None if one is None or other is None else one + other
