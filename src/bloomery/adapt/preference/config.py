"""PreferenceConfig: which preference loss, how strong, on how much of the data, for how long."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bloomery.adapt.starting import Weights
from bloomery.adapt.tuning.config import TuningFitConfig
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError

Method = Literal["dpo", "ipo", "kto", "orpo"]


@dataclass(frozen=True, kw_only=True)
class PreferenceFitConfig(TuningFitConfig):
    """How long and how fast preferences are learnt: a tuned model is near where it should be."""

    epochs: float = 1.0
    """Passes over the examples."""
    learning_rate: float = 0.0
    """0: a tenth of the one that examples are learnt with (`usual_rate`)."""


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """What a user may fix."""

    method: Method = "dpo"
    """DPO; IPO, which does not push without end where all pairs agree; KTO, from answers judged singly; ORPO, which
    needs no reference and learns the chosen texts as well."""
    beta: float = 0.1
    """DPO and KTO: the larger, the nearer the model stays to what it was. IPO: half of one over it is the margin per
    token that is aimed at. ORPO: weight of the odds ratio."""
    label_smoothing: float = 0.0
    """DPO: share of the pairs that are taken to be the wrong way round."""
    desirable_weight: float = 1.0
    """KTO: weight of good answers."""
    undesirable_weight: float = 1.0
    """KTO: weight of bad answers."""
    nll: Literal["completion", "all"] = "completion"
    """ORPO: the likelihood of the chosen texts is of their completions, or of prompts as well."""
    max_tokens: int = 1024
    """Examples that are longer are left out, and counted; never more than the model reads."""
    validation_fraction: float = 0.1
    """Share of the examples that is held out."""
    weights: Weights = "lora"
    """Adapters over weights that stay as they are, or all weights."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapters."""
    fit: PreferenceFitConfig = field(default_factory=PreferenceFitConfig)
    """How long and how fast."""

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError('"validation_fraction" should be from 0 to below 1')
        if self.max_tokens < 8:
            raise ConfigError('"max_tokens" should be at least 8')
