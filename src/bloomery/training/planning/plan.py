"""The plan and the question it answers: one budget, what is known of the data, and everything that was derived.

This module does not know how any of it is found (`planner`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import BloomeryError, ConfigError, DataError, nearest
from bloomery.core.quantity import Quantity
from bloomery.energy import EnergyConfig
from bloomery.models import ModelConfig
from bloomery.training.optimizers import OptimizerConfig
from bloomery.training.planning.law import DEFAULT_LAW, PASSES, ScalingLaw
from bloomery.training.planning.shapes import matrix_parameters

PLAN_FILE = "plan.json"
_RATES = OptimizerConfig().rates
MOST_MINUTES = 6e7
"""A million hours: whoever has more to spend has mistyped."""
MOST_STEPS = 10**12
_KNOWS_NOTHING = 8.0
"""Bits per byte."""
_MOST = {"minutes": MOST_MINUTES, "steps": MOST_STEPS, "watt_hours": 1e12, "money": 1e12}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent, or what is to be reached: exactly one of these is above zero."""

    minutes: float = 0.0
    """Of training on this machine, start, validation and checkpoints included."""
    steps: int = 0
    """Optimiser steps."""
    watt_hours: float = 0.0
    """At the machine."""
    money: float = 0.0
    """In `energy.currency`: electricity by energy.price_per_kwh, and hours by energy.price_per_hour."""
    bits_per_byte: float = 0.0
    """A target on validation text."""

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value}
        for name, value in given.items():
            unit = name.replace("_", " ")
            most = _MOST.get(name, MOST_STEPS)
            if not abs(value) <= most:  # nor need it be a number, or fit into a float
                raise ConfigError(f"a budget of so many {unit} cannot be planned", hint=f"{most:g} {unit} at most")
            if value < 0:
                raise ConfigError(f"a budget of {value:g} {unit} is less than nothing")
        if self.bits_per_byte >= _KNOWS_NOTHING:
            raise ConfigError(
                f"{self.bits_per_byte:g} bits per byte need no training: whoever knows nothing has {_KNOWS_NOTHING:g}",
                hint="a lower target: small models of plain English reach 1 to 2",
            )
        if not given:
            raise ConfigError(
                "nothing may be spent: a plan needs a budget",
                hint="minutes above 0, or steps, watt-hours, money or a target in bits per byte",
            )
        if len(given) > 1:
            raise ConfigError(f"a plan has one budget, not {' and '.join(given)}", hint="leave all but one out")

    @property
    def kind(self) -> str:
        return next(name for name, value in vars(self).items() if value)

    @property
    def amount(self) -> float:
        return float(getattr(self, self.kind))

    def text(self, currency: str = "") -> str:
        """`5 minutes`."""
        unit = currency if self.kind == "money" and currency else self.kind.replace("_", " ")
        return f"{self.amount:g} {unit}"


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What is known before planning; zero, "" and "auto" leave a choice to the planner."""

    tokens: int
    """Tokens in the training split."""
    text_bytes: int
    """UTF-8 bytes of the training split."""
    vocab_size: int
    budget: Budget
    base: ModelConfig
    """Family and special tokens; its sizes are replaced unless `fixed_size`."""
    fixed_size: bool = False
    batch_rows: int = 0
    micro_rows: int = 0
    context_length: int = 256
    precision: str = "auto"
    compile: str = "auto"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Peak learning rates, scaled as the user asked for."""
    scale_rates: bool = False
    """Whether the planner scales them by the batch and the tokens of the run."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    validations: int = 8
    """During the run; one of the whole split follows at its end."""
    validation_tokens: int = 0
    """Tokens in the validation split."""
    checkpoint_seconds: float = 30.0
    checkpoint_every_steps: int = 0
    whole_validations: bool = False
    """Whether every validation covers the whole split."""
    first_batch: float = 1.0
    """Share of the batch's rows in the first third of the steps; halfway in the second."""
    short_rows_fraction: float = 0.0
    """Share of the steps at the beginning in which each row is read as several short ones."""
    warmup_fraction: float = 0.02
    """Share of the steps in which the learning rate rises."""
    decay_fraction: float = 0.5
    """Share in which it falls: a law holds for those of its ladder."""
    batches: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None
    """Reads so many rows of the text, as the run will: steps are timed on them. Without it, on random tokens."""
    law: ScalingLaw = DEFAULT_LAW
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    tries_threads: bool = True
    """Whether fewer threads are timed, on a CPU; not worth it where only the size is asked for."""
    folder: Path | None = None
    """Where checkpoints will be written; the system's temporary folder when not known."""
    reasons: tuple[str, ...] = ()
    """What is to be said beside what the planner finds: of the law that was found, for instance."""

    def worth(self, run_tokens: float) -> float:
        """Tokens of a run as the rule for batches counts them: passes after which text gives nothing new are none."""
        return min(run_tokens, PASSES * self.tokens)


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another shape for the same budget."""

    name: str
    num_hidden_layers: int
    hidden_size: int
    parameters: int
    steps: int
    seconds: float
    predicted_bits_per_byte: Quantity


@dataclass(frozen=True, kw_only=True)
class Components:
    """What a run's time is made of, in seconds."""

    start: float = 0.0
    """Building the model, looking for what would spoil the run, and what the first step costs beyond others."""
    compiling: float = 0.0
    steps: float = 0.0
    """Reading, computing, updating."""
    evaluation: float = 0.0
    """During the run and at its end."""
    checkpoints: float = 0.0
    writing: float = 0.0
    """The finished model."""

    @property
    def total(self) -> float:
        return sum(vars(self).values())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs that its config left open, and what was predicted for it."""

    model: ModelConfig
    batch_rows: int
    micro_rows: int
    context_length: int
    steps: int
    precision: str
    compiled: bool
    threads: int
    device: str
    parameters: int
    learning_rate: float
    """Peak of the hidden matrices (Muon)."""
    learning_rates: dict[str, float]
    """Peaks of all groups, as in `pretrain.optimizer`."""
    optimizer: OptimizerConfig | None = None
    """All of `pretrain.optimizer`, with these peaks; None in plans of earlier versions."""
    first_batch: float = 1.0
    short_rows_fraction: float = 0.0
    """Both as in `pretrain`."""
    seconds_per_step: float
    predicted_seconds: float
    """From the start to the finished model, planning aside; the middle of `seconds`."""
    predicted_bits_per_byte: Quantity
    epochs: float
    tokens: int
    seconds: Quantity
    joules: Quantity
    gco2e: Quantity
    cost: Quantity
    memory_bytes: Quantity
    available_bytes: float
    budget: Budget
    law: str
    """Where the law's constants come from."""
    calibrated: bool
    currency: str = "EUR"
    components: Components = field(default_factory=Components)
    """What `predicted_seconds` is made of."""
    planning_seconds: float = 0.0
    """What measuring for this plan took, beside those."""
    supported_parameters: int = 0
    """Matrix parameters beyond which this corpus gives almost nothing, however long it is trained."""
    alternatives: tuple[Alternative, ...] = ()
    tokens_artifact: str = ""
    tokenizer_artifact: str = ""
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch_rows", "micro_rows", "context_length", "steps", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f'"{name}" of a plan should be at least 1')
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f'"precision" of a plan cannot be {self.precision!r:.40}', hint="float32 or bfloat16")
        for name, rate in self.learning_rates.items():
            if name not in _RATES:
                raise ConfigError(f'a plan has no rate "{name:.40}"', hint=nearest(name, _RATES))
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < math.inf:
                raise ConfigError(f'"learning_rates.{name}" of a plan should be a number, 0 or more')

    def to_dict(self) -> dict[str, Any]:
        return to_dict(self)

    def paced(
        self, steps: int, seconds_per_step: float, why: str, *, law: ScalingLaw | None = None, text_bytes: int = 0
    ) -> Plan:
        """The plan for the same time with other steps of another length. What it will reach is unknown without the law,
        and the bytes of the text, that it was made by."""
        share, expected = steps / self.steps, Quantity.unknown()
        if law is not None:
            seen = self.epochs * share * text_bytes
            law = law.for_batch(self.batch_rows * self.context_length)
            expected = law.predict(matrix_parameters(self.model), seen, text_bytes)
        return dataclasses.replace(
            self,
            steps=steps,
            seconds_per_step=seconds_per_step,
            tokens=round(self.tokens * share),
            epochs=self.epochs * share,
            predicted_bits_per_byte=expected,
            reasons=(*self.reasons, why),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        return from_dict(cls, values, where="plan")

    def for_data(self, tokens: str, tokenizer: str) -> Plan:
        """The plan, bound to the artifacts that it was made for."""
        return dataclasses.replace(self, tokens_artifact=tokens, tokenizer_artifact=tokenizer)


def read_plan(path: Path) -> Plan:
    """A plan from a file, or from the folder of an artifact. DataError when it is none."""
    file = path / PLAN_FILE if path.is_dir() else path
    try:
        return Plan.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"cannot read a plan from {file}: {error.strerror or error}", hint="bloomery plan") from error
    except (ValueError, TypeError, AttributeError, RecursionError, BloomeryError) as error:
        raise DataError(f"{file} is no plan: {error}", hint="bloomery plan --out FILE writes one") from error
