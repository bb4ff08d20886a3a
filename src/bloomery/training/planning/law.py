"""The scaling law: the loss that parameters and data lead to, and what repeated data and too many parameters count.

    L(N, D) = E + A / N^alpha + B / D^beta                        (Hoffmann et al. 2022, arXiv 2203.15556)

Repeats of D and parameters beyond what the unique data support count less and less (Muennighoff et al. 2023,
arXiv 2305.16264). Here L is in bits per byte, N the parameters of the attention and feed-forward matrices, and D bytes
of text read, so that two tokenizers can be compared. This module does not know how the constants are found (`fitting`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.quantity import Quantity

REPEATED_DATA = 15.388
"""R*_D: so many repeats after the first pass are worth 1 - 1/e of as much new text."""
EXCESS_PARAMETERS = 5.310
"""R*_N: the same for parameters beyond those that the unique text supports."""
PASSES = 40
"""Over a text, after which another one is worth next to nothing (Muennighoff et al. 2023)."""
CONSTANTS = ("E", "A", "alpha", "B", "beta")
_MOST = 8.0  # bits per byte of a model that knows nothing
_WORTH_IT = 0.01  # a larger model that gains less than this share of the loss is not worth its cost
_INTERVAL = (5.0, 95.0)
# Our own choice: so much wider on each side for each factor of e beyond the largest run that the law has seen.
_SPREAD_BEYOND = 0.02
_SPREAD_OTHER_SETTINGS = 0.05


@dataclass(frozen=True, kw_only=True)
class ScalingLaw:
    """Constants, how sure they are, and where they come from."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float
    origin: str = "published or given"
    calibrated: bool = False
    """Whether it was fitted on the user's own corpus."""
    spread_low: float = 0.0
    """How much lower, as a share of the prediction, a run may come out than the constants say."""
    spread_high: float = 0.0
    largest_parameters: float = 0.0
    """Of the runs it was fitted on: up to there the gain of more parameters was seen, not supposed."""
    largest_data: float = 0.0
    """Of the runs it was fitted on, repeats discounted."""
    batch_tokens: float = 0.0
    """Tokens a step of the runs it was fitted on; 0: not known, or of several batches."""
    samples: tuple[tuple[float, ...], ...] = ()
    """The constants of each bootstrap sample, in the order of CONSTANTS."""

    def __post_init__(self) -> None:
        values = [getattr(self, name) for name in CONSTANTS]
        if not all(math.isfinite(v) for v in values) or min(self.alpha, self.beta, self.A, self.B) <= 0 or self.E < 0:
            raise DataError(f"these constants make no scaling law: {dict(zip(CONSTANTS, values, strict=True))}")

    @property
    def constants(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in CONSTANTS}

    def wider(self) -> ScalingLaw:
        """The law for runs with other settings than those it was fitted on: not as sure."""
        return replace(
            self,
            spread_low=self.spread_low + _SPREAD_OTHER_SETTINGS,
            spread_high=self.spread_high + _SPREAD_OTHER_SETTINGS,
        )

    def for_batch(self, tokens: float) -> ScalingLaw:
        """The law for steps of so many tokens: itself where it was fitted on such, else wider."""
        return self if self.suits_batch(tokens) else self.wider()

    def suits_batch(self, tokens: float) -> bool:
        """Whether it was fitted on steps of so many tokens, or on those of no one size."""
        return self.batch_tokens in (0.0, tokens)

    def loss(self, parameters: float, data: float) -> float:
        """L for parameters and data as they count, repeats and excess discounted by the caller."""
        return self.E + self.A / parameters**self.alpha + self.B / data**self.beta

    def best_parameters(self, data: float) -> float:
        """N at which one more unit of computing is as well spent on parameters as on data (6 N D operations)."""
        ratio = self.alpha * self.A / (self.beta * self.B)
        return (ratio * data**self.beta) ** (1 / self.alpha)

    def effective_parameters(self, parameters: float, unique: float) -> float:
        """N as it counts for `unique` data: in full up to the best N for that much, or to the largest that was seen
        to gain on this corpus."""
        return discounted(
            parameters, max(self.best_parameters(unique), self.largest_parameters), half=EXCESS_PARAMETERS
        )

    def expected(self, parameters: float, seen: float, unique: float) -> float:
        """Bits per byte of a model that has read `seen` bytes of a corpus of `unique`."""
        if min(parameters, seen, unique) <= 0:
            return _MOST
        count = self.effective_parameters(parameters, min(seen, unique))
        return min(self.loss(count, effective_data(seen, unique)), _MOST)

    def predict(self, parameters: float, seen: float, unique: float) -> Quantity:
        """`expected` with an interval: 90% of the bootstrap's laws, and the scatter of runs around them."""
        central = self.expected(parameters, seen, unique)
        low = high = central
        data = effective_data(seen, unique)
        beyond = _SPREAD_BEYOND * (_beyond(data, self.largest_data) + _beyond(parameters, self.largest_parameters))
        if self.samples and min(parameters, data) > 0:
            count = self.effective_parameters(parameters, min(seen, unique))
            e, a, alpha, b, beta = np.array(self.samples).T
            found = np.percentile(e + a / count**alpha + b / data**beta, _INTERVAL)
            low, high = min(central, float(found[0])), max(central, float(found[1]))
        return Quantity(
            low=max(0.0, low * (1 - self.spread_low - beyond)),
            central=central,
            high=min(max(central, _MOST), high * (1 + self.spread_high + beyond)),
            method="estimated",
        )

    def data_for(self, target: float, parameters: float, unique: float) -> float | None:
        """Bytes to read until `target` bits per byte are expected; None if no number of passes leads there."""
        low, high = 1.0, 1e3 * unique
        if self.expected(parameters, high, unique) > target:
            return None
        for _ in range(200):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self.expected(parameters, middle, unique) <= target else (middle, high)
        return high

    def supported_parameters(self, unique: float, sizes: Sequence[float], *, passes: float = PASSES) -> float:
        """The smallest of `sizes` that, after that many passes, is within 1% of the best of all."""
        losses = {size: self.expected(size, passes * unique, unique) for size in sorted(sizes)}
        best = min(losses.values())
        return next(size for size, loss in losses.items() if loss <= best * (1 + _WORTH_IT))

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "samples": [list(sample) for sample in self.samples]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScalingLaw:
        """Raises DataError when it is no law."""
        try:
            samples = tuple(tuple(float(v) for v in sample) for sample in values.get("samples", ()))
            return cls(**{**values, "samples": samples})
        except (AttributeError, TypeError, ValueError, ConfigError) as error:
            raise DataError(f"not a scaling law: {error}") from error


def _beyond(amount: float, largest: float) -> float:
    """How many factors of e an amount lies above the largest seen; 0 if that is not known."""
    return math.log(max(1.0, amount / largest)) if largest > 0 else 0.0


def discounted(amount: float, full: float, *, half: float) -> float:
    """`full` in full and the rest with falling worth: F + F R* (1 - exp(-R / R*)), R the rest in units of F."""
    if amount <= full or full <= 0:
        return min(amount, full)
    rest = amount / full - 1
    return full * (1 + half * (1 - math.exp(-rest / half)))


def effective_data(seen: float, unique: float) -> float:
    """Data read, repeats discounted; the unit of both is the same."""
    return discounted(seen, unique, half=REPEATED_DATA)


DEFAULT_LAW = ScalingLaw(
    E=0.7126,
    A=17.33,
    alpha=0.4037,
    B=26.33,
    beta=0.2183,
    origin="small models on the documentation of Python: a guess on other text (experiments/fit_small_law.py)",
    spread_low=0.31,
    spread_high=0.15,
    largest_parameters=2.9e6,
    largest_data=3e7,
)
"""Of ours, for a corpus without a calibration. On five corpora that it was held against (docs/results.md) ladders came
out from 32% lower, stories of simple words, to 6% higher."""
