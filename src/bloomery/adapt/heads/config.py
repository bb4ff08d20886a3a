"""HeadsConfig: how many extra heads, and how they learn."""

from __future__ import annotations

from dataclasses import dataclass, field

from bloomery.core.errors import ConfigError
from bloomery.training.fit import FitConfig


@dataclass(frozen=True, kw_only=True)
class HeadsFitConfig(FitConfig):
    """How long and how fast they learn."""

    batch_rows: int = 16
    """Packed rows of a batch."""
    learning_rate: float = 0.01
    """0 takes .02 with Muon, .001 with AdamW; Muon's other rates follow in proportion."""


@dataclass(frozen=True, kw_only=True)
class HeadsConfig:
    """What a user may fix."""

    heads: int = 3
    """Tokens that are guessed beyond the next one, one by each head."""
    context_length: int = 0
    """Tokens of a row; 0: what the model reads at most, but no more than 512."""
    fit: HeadsFitConfig = field(default_factory=HeadsFitConfig)
    """How long and how fast."""

    def __post_init__(self) -> None:
        if not 1 <= self.heads <= 8:
            raise ConfigError(f'"heads" should be from 1 to 8, not {self.heads}')
        if self.context_length and self.context_length < 16:
            raise ConfigError(f'"context_length" should be 0, or 16 and more, not {self.context_length}')
