"""Spending: how many steps a number of seconds buys, what else a run does in them, and what it costs.

Seconds of a run are its start, its steps, its validations, its checkpoints and the writing of the model; joules are
watts times seconds; carbon and money follow from joules and hours. What cannot be measured is unknown, and stays so in
every product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity
from bloomery.energy import EnergyConfig, footprint
from bloomery.training.planning.plan import Budget, Components
from bloomery.training.rollback import anchor_every

_JOULES_PER_WATT_HOUR = 3600.0
# What a plan of minutes cannot know: other programs, heat. A measured spread that is wider goes before it.
_TIME_LOW, _TIME_HIGH = 0.95, 1.10
_LEAST_SHARE_OF_STEPS = 0.5


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What the parts of a run take, in seconds."""

    step: float
    validation_row: float
    """A row in a validation."""
    batch_rows: int
    validations: int
    validation_rows: float
    """Rows of the whole validation split."""
    checkpoint: float
    """One of them."""
    checkpoint_every: float
    """Seconds between checkpoints, beside those to go back to."""
    checkpoint_every_steps: int = 0
    """Steps between checkpoints that were asked for; 0: none were."""
    whole_validations: bool = False
    """Whether every validation covers the whole split."""
    rows_share: float = 1.0
    """Mean rows of a batch over the run, as a share of `batch_rows`."""
    short_saving: float = 0.0
    """Share of all steps' time that short rows at the beginning save."""
    start: float = 0.0
    """Building the model and the first step."""
    trial: Callable[[int], float] = lambda steps: 0.0
    """What is tried before a run of so many steps."""
    compiling: float = 0.0
    """Once."""
    writing: float = 0.0
    """The finished model."""

    @property
    def mean_step(self) -> float:
        """Of the run's steps, the cheaper ones among them."""
        return self.step * self.rows_share * (1 - self.short_saving)

    def parts(self, steps: int) -> Components:
        """Of a whole run of so many steps, part by part."""
        of_steps, evaluation = steps * self.mean_step, self._validating(steps)
        return Components(
            start=self.start + self.trial(steps),
            compiling=self.compiling,
            steps=of_steps,
            evaluation=evaluation,
            checkpoints=self._checkpoints(steps, of_steps + evaluation) * self.checkpoint,
            writing=self.writing,
        )

    def seconds(self, steps: int) -> float:
        """Of a whole run of so many steps."""
        return self.parts(steps).total

    def steps_within(self, seconds: float) -> int:
        """The most steps whose run takes no longer; but at least half of the time goes into steps."""
        step = self.mean_step
        least = int(max(0.0, seconds * _LEAST_SHARE_OF_STEPS - self.compiling) / step)
        low, high = least, max(least, int(seconds / step) + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.seconds(middle) <= seconds else (low, middle)
        return low

    def _checkpoints(self, steps: int, work: float) -> int:
        """How many are written: those to go back to, those for which it is time between two of them, the last."""
        every = anchor_every(steps)
        anchors, own = steps // every, self.checkpoint_every_steps
        between = int(work / max(1, steps) * every / max(1e-9, self.checkpoint_every))
        asked = steps // own - steps // math.lcm(own, every) if own else 0
        last = bool(steps % every) and not (own and steps % own == 0)
        return anchors + asked + int(steps / every * between) * (not own) + last

    def _validating(self, steps: int) -> float:
        every = steps // (self.validations + 1) if self.validations else 0
        times = (steps - 1) // every if every else 0
        part = min(self.validation_rows, min(self.batch_rows, 64) * validation_batches(steps))
        if self.whole_validations:
            part = self.validation_rows
        return (times * part + self.validation_rows) * self.validation_row


def validation_batches(steps: int) -> int:
    """Batches of a validation during a run of so many steps; the last covers the whole split."""
    return max(1, min(8, steps // 50))


def seconds_of(budget: Budget, watts: Quantity, energy: EnergyConfig) -> float | None:
    """Seconds that a budget pays for; None for one of steps or of a target. ConfigError where watts or a price that
    it takes are unknown."""
    if budget.kind == "minutes":
        return budget.minutes * 60
    if budget.kind not in ("watt_hours", "money"):
        return None
    if budget.kind == "watt_hours":
        if not watts.central:
            raise ConfigError("the power of this machine is unknown: watt-hours cannot be planned", hint="--minutes")
        return budget.watt_hours * _JOULES_PER_WATT_HOUR / watts.central
    if energy.price_per_kwh is not None and not watts.central:
        raise ConfigError(
            "the power of this machine is unknown, and with it what its electricity costs",
            hint="--minutes, or energy.price_per_hour alone",
        )
    second = cost(Quantity.exact(1.0, "user"), watts, energy)
    if not second.central:
        hint = "--set energy.price_per_kwh=0.30, or --set energy.price_per_hour=2 for a rented machine"
        raise ConfigError("without a price money cannot be planned", hint=hint)
    return budget.money / second.central


def time_interval(seconds: float, *, low: float, high: float) -> Quantity:
    """`seconds` with bounds: the spread of the steps timed, `low` and `high` as shares of their median, and at
    least our own."""
    return Quantity(
        low=seconds * min(_TIME_LOW, low or 1.0),
        central=seconds,
        high=seconds * max(_TIME_HIGH, high or 1.0),
        method="estimated",
    )


def product(one: Quantity, other: Quantity) -> Quantity:
    """Of two quantities that are not negative; unknown if either is."""
    if one.low is None or one.central is None or one.high is None:
        return one
    if other.low is None or other.central is None or other.high is None:
        return other
    return Quantity(
        low=one.low * other.low, central=one.central * other.central, high=one.high * other.high, method="estimated"
    )


def cost(seconds: Quantity, watts: Quantity, energy: EnergyConfig) -> Quantity:
    """Money for a time at a power: electricity, where its price is known, and hours, where they cost; else unknown."""
    hours = None if energy.price_per_hour is None else seconds.scaled(energy.price_per_hour / 3600)
    if energy.price_per_kwh is None:
        return hours or Quantity.unknown()
    electricity = footprint(product(seconds, watts), energy).cost
    return electricity if hours is None else electricity + hours
