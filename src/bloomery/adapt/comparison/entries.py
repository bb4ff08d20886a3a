"""Entries: who takes part: each arm, once for each model where it asks one, and why others do not.

This module does not know how arms work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bloomery.adapt.comparison.arm import Arm, Setting
from bloomery.adapt.comparison.arms import arm_named
from bloomery.adapt.comparison.task import ARMS, TaskConfig
from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An arm with its model."""

    name: str
    """Unique within the comparison: the arm's, with its model's where there are several."""
    arm: Arm
    model: str = ""
    """What the task calls it; "": it asks none."""


def entries(config: TaskConfig, settings: Mapping[str, Setting]) -> tuple[list[Entry], dict[str, str]]:
    """(those that take part, {name: why another does not}). `settings` by model, "" for arms that ask none.

    ConfigError where none is left.
    """
    found: list[Entry] = []
    out: dict[str, str] = {}
    for name in config.arms or ARMS:
        arm = arm_named(name)
        models: Sequence[str] = [one.called for one in config.model] if arm.asks else [""]
        if not models:
            out[name] = "the task names no model"
        for model in models:
            entry = Entry(name=name if len(models) == 1 else f"{name} ({model})", arm=arm, model=model)
            if arm.asks and settings[model].model is None:
                out[entry.name] = "the task names no model"
            elif why := arm.unfit(settings[model]):
                out[entry.name] = why
            else:
                found.append(entry)
    if not found:
        raise ConfigError("no arm fits this task", hint="; ".join(f"{name}: {why}" for name, why in out.items())[:300])
    return found, out
