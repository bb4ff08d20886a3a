"""Warm-up / stable / decay: the learning-rate multiplier as a function of the step.

Hu et al., "MiniCPM" (2024), with the linear decay that Hägele et al. (2024) found as good as any. It depends
on the step alone, so a resumed run needs no schedule state. This module does not know learning rates.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear from 0 to 1 over `warmup_steps`, 1, then linear to `final` over the last `decay_steps`."""

    total_steps: int
    warmup_steps: int
    decay_steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.total_steps < 1 or self.warmup_steps < 0 or self.decay_steps < 0:
            raise ValueError(f"a schedule needs at least one step: {self}")
        if self.warmup_steps + self.decay_steps > self.total_steps:
            raise ValueError(f"warm-up and decay are longer than the run: {self}")

    def multiplier(self, step: int) -> float:
        """For the update number `step`, counted from 0; the first warm-up step is already above zero."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        left = self.total_steps - step
        if left <= self.decay_steps:
            return self.final + (1 - self.final) * left / (self.decay_steps + 1)
        return 1.0
