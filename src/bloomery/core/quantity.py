"""Quantity: a measured or estimated number that says how sure it is and where it came from.

Energy, carbon and cost are never bare floats in bloomery: each is {low, central, high, method}. A quantity
that could not be measured is `Quantity.unknown()`, which is not zero and which poisons every sum it enters.
This module does not know units: the name of the field that holds a quantity does (`energy_joules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Method = Literal["counter", "sampled", "estimated", "user", "unknown"]

# The weaker method wins in a sum: a total is only as well founded as its worst part.
_WEAKNESS: dict[str, int] = {"counter": 0, "user": 1, "sampled": 2, "estimated": 3, "unknown": 4}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number with bounds and the method by which it was obtained.

    `low <= central <= high`, or all three None when the method is "unknown".
    Methods: counter (hardware energy counter), sampled (power integrated over time), estimated (a model of
    the machine), user (given by the user), unknown.
    """

    low: float | None
    central: float | None
    high: float | None
    method: Method

    def __post_init__(self) -> None:
        values = (self.low, self.central, self.high)
        if self.method == "unknown":
            if values != (None, None, None):
                raise ValueError("an unknown quantity has no values")
            return
        if self.low is None or self.central is None or self.high is None:
            raise ValueError(f"a {self.method} quantity needs low, central and high")
        if not self.low <= self.central <= self.high:
            raise ValueError(f"bounds out of order: {self.low}, {self.central}, {self.high}")

    @classmethod
    def unknown(cls) -> Quantity:
        return cls(low=None, central=None, high=None, method="unknown")

    @classmethod
    def exact(cls, value: float, method: Method) -> Quantity:
        return cls(low=value, central=value, high=value, method=method)

    @property
    def known(self) -> bool:
        return self.method != "unknown"

    def __add__(self, other: Quantity) -> Quantity:
        if self.low is None or self.central is None or self.high is None:
            return self
        if other.low is None or other.central is None or other.high is None:
            return other
        method = self.method if _WEAKNESS[self.method] >= _WEAKNESS[other.method] else other.method
        return Quantity(
            low=self.low + other.low, central=self.central + other.central, high=self.high + other.high, method=method
        )

    def __sub__(self, earlier: Quantity) -> Quantity:
        """The amount gathered since `earlier`, both readings of one cumulative meter."""
        if self.low is None or self.central is None or self.high is None:
            return self
        if earlier.low is None or earlier.central is None or earlier.high is None:
            return earlier
        central = max(0.0, self.central - earlier.central)
        low = min(central, max(0.0, self.low - earlier.low))
        high = max(central, self.high - earlier.high)
        return Quantity(low=low, central=central, high=high, method=self.method)

    def scaled(self, factor: float) -> Quantity:
        """Multiplied by an exact, non-negative factor."""
        if self.low is None or self.central is None or self.high is None:
            return self
        return Quantity(
            low=self.low * factor, central=self.central * factor, high=self.high * factor, method=self.method
        )

    def to_dict(self) -> dict[str, Any]:
        return {"low": self.low, "central": self.central, "high": self.high, "method": self.method}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Quantity:
        return cls(low=value["low"], central=value["central"], high=value["high"], method=value["method"])

    def text(self, unit: str, digits: int = 3) -> str:
        """`12.3 (8.1 to 20) J, estimated`, or `unknown`."""
        if self.low is None or self.central is None or self.high is None:
            return "unknown"
        if self.low == self.high:
            return f"{self.central:.{digits}g} {unit}, {self.method}"
        return f"{self.central:.{digits}g} ({self.low:.{digits}g} to {self.high:.{digits}g}) {unit}, {self.method}"
