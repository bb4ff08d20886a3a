"""Dial: a key of a recipe and the values that a sweep may give it.

This module does not know recipes or trials.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from optuna.trial import Trial

_FIELDS = ("low", "high", "log", "step")
_MOST = 10_000
"""Values of a grid, and combinations of several dials'."""
_FEWER = f'a larger step, fewer values (a grid has {_MOST:,} at most), or "sweep.sampler" "random" or "tpe"'


@dataclass(frozen=True, kw_only=True)
class Dial:
    """`choices`, or what lies from `low` to `high`; whole numbers where both are."""

    key: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0.0
    whole: bool = False

    @classmethod
    def of(cls, key: str, value: Any) -> Dial:
        """From what a recipe's [sweep.dials] has. ConfigError where it makes no sense."""
        if isinstance(value, (list, tuple)):
            if len(value) < 1 or not all(_plain(one) for one in value):
                raise ConfigError(f'the dial "{key}" needs plain values to choose from')
            if any(one == other for one, other in combinations(value, 2)):  # True is 1, too, to Optuna
                raise ConfigError(f'the dial "{key}" has a value twice')
            return cls(key=key, choices=tuple(value))
        if not isinstance(value, Mapping):
            raise ConfigError(f'the dial "{key}" is neither a list nor a range', hint='"KEY" = { low = 1, high = 8 }')
        for name in value:
            if name not in _FIELDS:
                raise ConfigError(f'the dial "{key}" has no "{name}"', hint=nearest(name, _FIELDS))
        numbers = {name: value.get(name, 0) for name in ("low", "high", "step")}
        for name, number in numbers.items():
            if isinstance(number, (bool, str)) or not _plain(number):
                raise ConfigError(f'"{name}" of the dial "{key}" is no number')
        log = value.get("log", False)
        if not isinstance(log, bool):
            raise ConfigError(f'"log" of the dial "{key}" should be true or false')
        whole = all(isinstance(number, int) for number in numbers.values()) and "low" in value
        dial = cls(key=key, log=log, whole=whole, **numbers)
        for name in ("low", "high"):
            if name not in value:
                raise ConfigError(f'the dial "{key}" has no {name}', hint="a range has both; a list has its values")
        if dial.low >= dial.high:
            raise ConfigError(f'the dial "{key}" needs a low that is below its high')
        if not math.isfinite(dial.steps):
            raise ConfigError(f'the dial "{key}" spans more than numbers can count')
        if not 0 <= dial.step <= dial.high - dial.low:
            raise ConfigError(f'"step" of the dial "{key}" should lead from its low to its high')
        if dial.log and (dial.low <= 0 or dial.step):
            raise ConfigError(f'the dial "{key}" is logarithmic: its low should be above 0, and it has no step')
        return dial

    def suggest(self, trial: Trial) -> Any:
        """Optuna's choice for a trial."""
        if self.choices:
            return trial.suggest_categorical(self.key, self.choices)
        if self.whole:
            step = int(self.step) or 1
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step or None, log=self.log)

    def kept(self, value: Any) -> Any:
        """A value as Optuna's journal has it: what turns smoothly is a float there."""
        return value if self.choices or self.whole else float(value)

    @property
    def tested(self) -> tuple[Any, ...]:
        """What of it can be looked at beforehand: all choices, or both ends of a range."""
        if self.choices:
            return self.choices
        last = self.low + int(self.steps + 1e-9) * self.step if self.step else self.high
        return self.low, min(last, self.high)

    @property
    def steps(self) -> float:
        """How many steps lead from its low to its high; infinity where there are more than a float can say."""
        try:
            return float(self.high - self.low) / (self.step or 1)
        except OverflowError:
            return math.inf

    @property
    def count(self) -> float:
        """How many values it has; infinity where it turns smoothly."""
        if self.choices:
            return len(self.choices)
        return int(self.steps + 1e-9) + 1 if self.step or self.whole else math.inf

    def places(self, points: int) -> int:
        """How many values its grid has: all choices; of a range, each step, or `points` (whole ones may meet)."""
        return int(self.count) if self.choices or self.step else points

    def at(self, place: int, points: int) -> Any:
        """The value at a place of its grid; a range without steps is spread evenly (in the logarithm, where it is)."""
        if self.choices:
            return self.choices[place]
        if self.step:
            value = self.low + place * self.step
        elif self.log:
            value = self.low * (self.high / self.low) ** (place / (points - 1))
        else:
            value = self.low + (self.high - self.low) * place / (points - 1)
        value = min(value, self.high)  # a last bit beyond it is outside for Optuna
        return round(value) if self.whole else value

    def grid(self, points: int) -> list[Any]:
        """All values of its grid, each once. ConfigError where there are more than anybody tries."""
        if self.places(points) > _MOST:
            raise ConfigError(f'the dial "{self.key}" has {self.places(points):,} values in a grid', hint=_FEWER)
        return list(dict.fromkeys(self.at(place, points) for place in range(self.places(points))))


def _plain(value: Any) -> bool:
    """What a recipe's key may be: text, yes or no, or a number that is finite."""
    try:
        return isinstance(value, (str, bool, int, float)) and (isinstance(value, str) or math.isfinite(value))
    except OverflowError:  # an integer beyond any float
        return False


def dials_of(values: Mapping[str, Any]) -> list[Dial]:
    """All dials; ConfigError without any."""
    if not values:
        raise ConfigError(
            "the recipe has no dials", hint='[sweep.dials] with "pretrain.learning_rate_scale" = [0.5, 1, 2]'
        )
    return [Dial.of(key, value) for key, value in values.items()]


def combinations_of(dials: Sequence[Dial]) -> float:
    """How many combinations of values there are."""
    return math.prod(dial.count for dial in dials)


def grid_of(dials: Sequence[Dial], points: int) -> list[tuple[Any, ...]]:
    """Every combination of the dials' grids. ConfigError where there are more than anybody tries."""
    grids = [dial.grid(points) for dial in dials]
    if (total := math.prod(map(len, grids))) > _MOST:
        raise ConfigError(f"the grid of all dials has {total:,} combinations", hint=_FEWER)
    return list(product(*grids))


def override(key: str, value: Any) -> str:
    """As `--set` takes it."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
