"""SweepConfig: which dials of a recipe are tried out, how often, and when a trial is given up.

This module does not know how a trial is run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Which dials are tried out, how often, and when a trial is given up."""

    dials: dict[str, Any] = field(default_factory=dict)
    """Key of the recipe in quotes -> a list of choices, or a table of low, high and, where wanted, log and step."""
    trials: int = 24
    """Trials in all; more of them go on where fewer ended."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """Tree of Parzen estimators, at random, or every combination."""
    points: int = 4
    """grid: values of a dial that has a low and a high."""
    stop: Literal["halving", "hopeless", "never"] = "halving"
    """halving: all trials begin, six in ten go on, then a sixth, then one in sixteen; hopeless: one after another, each
    to its end unless it will hardly be the best."""
    tolerance: float = 0.005
    """hopeless: share by which a trial's loss may turn out to be below the best without being missed."""
    chance: float = 0.05
    """hopeless: a trial is, when its chance to be below the best by more than the tolerance is under this."""
    least_share: float = 0.06
    """hopeless: share of its steps that every trial has."""
    seed: int = 0
    """Of the sampler."""
    engine: Literal["local", "ray"] = "local"
    """Where trials are run: in processes of this machine, or by Ray Tune (on the cluster that RAY_ADDRESS names, else
    one on this machine; all of its nodes must see the workspace). Either goes on with what the other began."""

    def __post_init__(self) -> None:
        if self.trials < 1 or self.points < 2:
            raise ConfigError('"sweep.trials" should be at least 1 and "sweep.points" at least 2')
        if not 0 <= self.seed < 2**32:
            raise ConfigError('"sweep.seed" should be from 0 to below 2**32')
        for name in ("tolerance", "chance", "least_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f'"sweep.{name}" should be from 0 to below 1')
