"""The ladder: which small runs, of which sizes and lengths, tell most about a corpus within a few minutes.

A few sizes, each with a share of the time; of each size one run whose stable part is trained once, and from which
decays branch off at an eighth, a quarter, half and all of its length: with warm-up / stable / decay every one of them
is a whole run (Hägele et al. 2024, arXiv 2405.18392). This module does not know how a rung is trained (`rung`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bloomery.core.errors import ConfigError
from bloomery.models import ModelConfig

LEAST_STEPS = 48
"""Of the shortest run: what is shorter has hardly left its random weights and follows no power law."""
LEAST_RUNS = 6
"""For five constants."""
_PARTS = (8, 4, 2, 1)
_SIZES_SHORT, _SIZES_LONG, _LONG_SECONDS = 3, 4, 420.0


@dataclass(frozen=True, kw_only=True)
class RungConfig:
    """One size and the lengths of its runs, in steps, ascending."""

    num_hidden_layers: int
    hidden_size: int
    branches: tuple[int, ...]
    decay_fraction: float
    warmup_steps: int

    def start(self, steps: int) -> int:
        """The step at which the decay of the run of `steps` begins."""
        return max(1, steps - round(steps * self.decay_fraction))


def trained_steps(branches: Sequence[int], decay_fraction: float) -> float:
    """Steps that all branches take together: the longest stable part once, and every decay."""
    return branches[-1] * (1 - decay_fraction) + sum(branches) * decay_fraction


def branches_of(longest: int) -> tuple[int, ...]:
    """Lengths of the runs of one size; none shorter than the least."""
    return tuple(longest // part for part in _PARTS if longest // part >= LEAST_STEPS)


def choose_ladder(
    shapes: Sequence[ModelConfig],
    *,
    step_seconds: Callable[[ModelConfig], float],
    validation_seconds: Callable[[ModelConfig], float],
    seconds: float,
    decay_fraction: float,
    warmup_fraction: float,
) -> list[RungConfig]:
    """Sizes of `shapes` (ascending) and lengths that fill `seconds`.

    The largest size is the one whose run is just long enough; the others lie evenly below it. ConfigError when there
    is too little time for two sizes and six runs.
    """
    wanted = _SIZES_LONG if seconds >= _LONG_SECONDS else _SIZES_SHORT
    for count in range(wanted, 1, -1):
        share = seconds / count  # so the small sizes see much more text: most plans read more than any rung
        for top in range(len(shapes) - 1, count - 2, -1):
            places = sorted({round(place * top / (count - 1)) for place in range(count)})
            chosen = [shapes[place] for place in places]
            rungs = [
                _rung(c, share, step_seconds(c), validation_seconds(c), decay_fraction, warmup_fraction) for c in chosen
            ]
            found = [rung for rung in rungs if rung is not None]
            if len(found) == count and sum(len(rung.branches) for rung in found) >= LEAST_RUNS:
                return found
    raise ConfigError(
        f"{seconds:.0f} seconds of steps are too few to calibrate on this machine",
        hint=f"--calibration-minutes {max(10, math.ceil(seconds / 30))}, or more",
    )


def _rung(
    config: ModelConfig, share: float, step: float, validation: float, decay_fraction: float, warmup_fraction: float
) -> RungConfig | None:
    """The rung of one size that takes `share` seconds; None if its longest run would be too short."""
    for count in range(len(_PARTS), 1, -1):
        parts = _PARTS[-count:]
        left = share - count * validation
        unit = sum(decay_fraction / part for part in parts) + (1 - decay_fraction)
        longest = int(left / step / unit)
        if longest // parts[0] >= LEAST_STEPS and longest >= 2 * LEAST_STEPS:
            branches = branches_of(longest)[-count:]
            middle = (branches[0] * branches[-1]) ** 0.5
            return RungConfig(
                num_hidden_layers=config.num_hidden_layers,
                hidden_size=config.hidden_size,
                branches=branches,
                decay_fraction=decay_fraction,
                warmup_steps=max(1, round(warmup_fraction * middle)),
            )
    return None
