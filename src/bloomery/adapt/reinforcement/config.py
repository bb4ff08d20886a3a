"""ReinforceConfig: how answers are drawn, rewarded and learnt from, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bloomery.adapt.starting import Weights
from bloomery.adapt.tuning.config import TuningFitConfig
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError

Averaging = Literal["sequence", "tokens", "constant"]


@dataclass(frozen=True, kw_only=True)
class ReinforceFitConfig(TuningFitConfig):
    """How long and how fast a model learns from rewards."""

    steps: int = 100
    """Optimiser steps; with 0, `epochs` of the prompts."""
    batch_rows: int = 64
    """Answers of a step: prompts times `group`."""
    learning_rate: float = 0.0
    """0: a tenth of the one that examples are learnt with (`usual_rate`)."""


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig:
    """What a user may fix. `fit.batch_rows` counts answers: prompts of a step times `group`."""

    rewards: tuple[str, ...] = ("number",)
    """What an answer is worth, summed: exact, number, pattern:REGEX, json, json:SCHEMA.json; "*0.5" after one weighs
    it."""
    group: int = 8
    """Answers drawn for each prompt, which are compared with each other."""
    max_new_tokens: int = 128
    """Tokens of an answer at most."""
    temperature: float = 1.0
    """Of the sampling, and of the probabilities that are learnt."""
    scale: Literal["group", "batch", "none"] = "group"
    """What a reward's distance from its group's mean is divided by: the standard deviation of its group (GRPO) or of
    the batch, or nothing (Dr. GRPO: easy and hard prompts count alike)."""
    average: Averaging = "sequence"
    """Each answer counts as one (GRPO), each token as one (DAPO), or a token as one of `max_new_tokens` (Dr. GRPO:
    long answers are not let off lightly)."""
    clip_low: float = 0.2
    """How far below 1 a token's probability may fall, over that when it was drawn, and still count."""
    clip_high: float = 0.2
    """How far above."""
    kl_weight: float = 0.0
    """Of the distance from the model that was begun with; above 0, where all weights are trained, a copy of it is kept
    in memory."""
    kl_weighted: bool = True
    """Whether its estimate is weighed by the ratio of probabilities, so that the gradient is the distance's own; false
    is the loss of GRPO's paper."""
    iterations: int = 1
    """Steps that are taken with each batch of answers."""
    learn_from_cut: bool = True
    """Whether answers that did not end within `max_new_tokens` are learnt from."""
    validation_fraction: float = 0.1
    """Share of the prompts that is held out: answered greedily."""
    validation_prompts: int = 200
    """Of which so many are asked at most."""
    weights: Weights = "lora"
    """Adapters over weights that stay as they are, or all weights."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapters."""
    fit: ReinforceFitConfig = field(default_factory=ReinforceFitConfig)
    """How long and how fast."""

    def __post_init__(self) -> None:
        if self.group < 2:
            raise ConfigError('"group" should be at least 2: answers are compared with each other')
        if self.fit.batch_rows % self.group:
            raise ConfigError(f"{self.fit.batch_rows} answers of a step are no whole groups of {self.group}")
        if not self.rewards:
            raise ConfigError('"rewards" names nothing that an answer could be worth')
        if self.iterations < 1 or self.max_new_tokens < 1:
            raise ConfigError('"iterations" and "max_new_tokens" should be at least 1')
        if not self.temperature > 0:
            raise ConfigError('"temperature" should be above 0: answers of a group must differ')
        for name in ("clip_low", "clip_high", "kl_weight"):
            if getattr(self, name) < 0:
                raise ConfigError(f'"{name}" cannot be negative')
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError('"validation_fraction" should be from 0 to below 1')
