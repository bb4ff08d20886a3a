"""DistilConfig: what a student takes from its teacher, and for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from bloomery.adapt.starting import Weights
from bloomery.adapt.tuning.config import TuningFitConfig
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DistilFitConfig(TuningFitConfig):
    """How long and how fast a student learns."""

    epochs: float = 1.0
    """Passes over the texts."""


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """What a user may fix."""

    way: Literal["logits", "texts"] = "logits"
    """The teacher's distribution at each token of texts that are there, or texts that the teacher writes."""
    beta: float = 0.0
    """logits: 0 is KL(teacher || student), 1 KL(student || teacher), between them the generalised Jensen-Shannon."""
    temperature: float = 1.0
    """logits: of both distributions; the loss is multiplied by its square, so that gradients stay as large."""
    label_weight: float = 0.0
    """logits: share of the loss that is the texts' own likelihood."""
    candidates: int = 0
    """logits: the teacher is asked once, and its so many likeliest tokens kept; 0: it is in memory all the time."""
    max_new_tokens: int = 256
    """texts: tokens that the teacher writes at most for a prompt."""
    writing_temperature: float = 1.0
    """texts: of the teacher's sampling; 0 is greedy."""
    samples: int = 1
    """texts: texts for each prompt."""
    max_tokens: int = 1024
    """Examples that are longer are left out, and counted; never more than the models read."""
    validation_fraction: float = 0.1
    """Share of the examples that is held out."""
    weights: Weights = "full"
    """All weights of the student, or adapters over weights that stay as they are."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapters."""
    fit: DistilFitConfig = field(default_factory=DistilFitConfig)
    """How long and how fast."""

    def __post_init__(self) -> None:
        for name in ("beta", "label_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f'"{name}" should be from 0 to 1, not {getattr(self, name):g}')
        if not 0 < self.temperature < math.inf:
            raise ConfigError('"temperature" should be above 0')
        if not 0 <= self.writing_temperature < math.inf:
            raise ConfigError('"writing_temperature" should be 0, or above it')
        if self.max_tokens < 8:
            raise ConfigError('"max_tokens" should be at least 8')
        if self.candidates < 0 or self.candidates == 1:
            raise ConfigError('"candidates" should be 0, or 2 and more')
        if self.samples < 1 or self.max_new_tokens < 1:
            raise ConfigError('"samples" and "max_new_tokens" should be at least 1')
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError('"validation_fraction" should be from 0 to below 1')
