"""DomainConfig: how much of the general text is read again, for how long, and what is measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from bloomery.adapt.starting import Weights
from bloomery.adapt.tuning.config import TuningFitConfig
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DomainFitConfig(TuningFitConfig):
    """How long and how fast a domain is read."""

    epochs: float = 1.0
    """Passes over the domain's corpus."""
    weight_decay: float = 0.05
    """Decoupled, of matrices."""
    keep_best: bool = False
    """The weights of the best validation on the domain are what comes out."""


@dataclass(frozen=True, kw_only=True)
class DomainConfig:
    """What a user may fix."""

    replay: float = 0.2
    """Share of the rows that are of the general corpus, against forgetting; 0 where there is none."""
    context_length: int = 0
    """Tokens of a row; 0: what the model reads at most, but no more than 1,024."""
    report_documents: int = 200
    """Documents of each kind that the forgetting report is made of, at most."""
    resamples: int = 2000
    """Of the bootstrap that its intervals are made by."""
    weights: Weights = "full"
    """All weights, or adapters over weights that stay as they are."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapters."""
    fit: DomainFitConfig = field(default_factory=DomainFitConfig)
    """How long and how fast."""

    def __post_init__(self) -> None:
        if not 0 <= self.replay < 1:
            raise ConfigError(f'"replay" should be from 0 to below 1, not {self.replay:g}')
        if self.context_length and self.context_length < 8:
            raise ConfigError(f'"context_length" should be 0, or 8 and more, not {self.context_length}')
        if self.report_documents < 2:
            raise ConfigError('"report_documents" should be at least 2: an interval needs several')
        if self.resamples < 100:
            raise ConfigError('"resamples" should be at least 100')
