"""AdaptConfig: how a model is tuned: what of it is trained, on what of the data, for how long.

This module does not know how any of it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError
from bloomery.training.fit import FitConfig

METHODS = ("lora", "qlora", "dora", "full")
F = TypeVar("F", bound=FitConfig)
_MOST_MINUTES, _MOST_EPOCHS = 525_600, 10_000
"""A year, and more passes than any data bears: beyond them somebody mistyped."""
_WIDTH = 2048
_FULL_RATE = 5e-5
_LORA_RATE = 5e-4


@dataclass(frozen=True, kw_only=True)
class TuningFitConfig(FitConfig):
    """How long and how fast a model is tuned."""

    epochs: float = 3.0
    """Passes over the examples; `minutes` counts where this and `steps` are 0. The best validation's weights are kept,
    so that too many do no harm but to the clock."""
    batch_rows: int = 16
    """Examples of a batch, or packed rows."""
    optimizer: Literal["muon", "adamw"] = "adamw"
    """AdamW: Muon's updates are of full rank and about the size of the weights, which is for learning anew."""
    learning_rate: float = 0.0
    """0: `usual_rate`, which knows the method and the model's width."""
    weight_decay: float = 0.0
    """Decoupled; towards zero, which is not where a trained model's weights should go."""
    max_norm: float = 1.0
    """Larger gradients are scaled down to this norm."""
    decay_fraction: float = 0.9
    """Share of the steps in which the learning rate falls."""
    keep_best: bool = True
    """The weights of the best validation are what comes out: that of the smallest loss, of labels too (accuracy would
    keep a model that never says a rare label)."""


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """What is trained, and on what."""

    method: Literal["lora", "qlora", "dora", "full"] = "lora"
    """Low-rank adapters; the same over a base in four bits; with magnitudes; or all weights."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapters, except with full."""
    fit: TuningFitConfig = field(default_factory=TuningFitConfig)
    """How long and how fast."""
    base: Literal["nf4", "int4"] = "nf4"
    """qlora: how the base's linear layers lie in memory."""
    double: bool = True
    """nf4: the blocks' scales lie in eight bits, too."""
    context_length: int = 1024
    """Tokens of an example at most; longer ones are cut at their end. No more than the model reads."""
    packing: bool = False
    """Examples are put together in rows of `context_length`, so that all batches are of about one size: for the memory
    of a GPU. What is computed is the same: without it a batch has no padding either."""
    recompute: bool = False
    """Layers are computed again in backward: less memory, a third more time."""
    validation_fraction: float = 0.1
    """Share of the examples that is held out, where no file of them is given."""
    validation_examples: int = 256
    """Most examples of a validation."""
    samples: int = 3
    """Held-out prompts that are answered before and after."""
    sample_tokens: int = 48
    """Tokens of such an answer at most."""

    def __post_init__(self) -> None:
        if self.context_length < 8:
            raise ConfigError('"adapt.context_length" should be at least 8')
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError('"adapt.validation_fraction" should be from 0 to below 1')
        for name in ("validation_examples", "samples", "sample_tokens"):
            if getattr(self, name) < 0:
                raise ConfigError(f'"adapt.{name}" cannot be negative')

    def adapter(self) -> LoraConfig:
        """The adapters that the method asks for."""
        return replace(self.lora, use_dora=True) if self.method == "dora" else self.lora

    def rated(self, hidden_size: int) -> TuningFitConfig:
        """`fit` with a learning rate, for a model of that width."""
        rate = self.fit.learning_rate or usual_rate(self.method, hidden_size)
        return replace(self.fit, learning_rate=rate)


def budgeted(fit: F, minutes: float | None, epochs: float | None) -> F:
    """How long, where a caller says so in minutes or in epochs. ConfigError for both, and for what is no length."""
    if minutes is not None and epochs is not None:
        raise ConfigError("minutes and epochs are both given", hint="give one of them")
    for name, value, most in (("minutes", minutes, _MOST_MINUTES), ("epochs", epochs, _MOST_EPOCHS)):
        if value is not None and not 0 < value <= most:
            raise ConfigError(f"{name} should be above 0 and at most {most:,}, not {value:g}")
    if minutes is not None:
        return replace(fit, minutes=float(minutes), epochs=0.0, steps=0)
    return fit if epochs is None else replace(fit, epochs=float(epochs), steps=0)


def usual_rate(method: str, hidden_size: int) -> float:
    """The learning rate of AdamW where none is given, for a model of that width.

    At width 2048 5e-5 for all weights, and ten times as much for adapters of any rank (Biderman et al., arXiv
    2405.09673, find rates of LoRA an order of magnitude above full ones; alpha / r keeps ranks alike). Narrower models
    bear more: all weights by the power 3/4 of how much narrower, adapters by the root. What a task's best rate is, only
    its validation knows: give others where it matters.
    """
    narrower = _WIDTH / hidden_size
    return _FULL_RATE * narrower**0.75 if method == "full" else _LORA_RATE * narrower**0.5
