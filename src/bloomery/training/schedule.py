"""Warm-up / stable / decay: the learning-rate multiplier, and the rows of a batch, as functions of the step.

Hu et al., "MiniCPM" (2024), with the linear decay that Hägele et al. (2024) found as good as any. It depends
on the step alone, so a resumed run needs no schedule state. This module does not know learning rates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear from 0 to 1 over `warmup_steps`, 1, then linear to `final` over the last `decay_steps`.

    With `first_batch` below 1 the batch grows: that share of its rows in the first third of the steps, halfway in the
    second, all in the last, and rates with the square root of the share (modded-nanogpt, 2026).
    """

    total_steps: int
    warmup_steps: int
    decay_steps: int
    final: float = 0.0
    first_batch: float = 1.0
    planned_steps: int = 0
    """The steps whose thirds the batch grows in, where the decay has another length than was planned; 0: all."""
    knee: int = 0
    """The number of the first update from which the rest of the decay is faster or slower than before; 0: none."""
    knee_total: int = 0
    """What `total_steps` was before there was a knee."""

    def __post_init__(self) -> None:
        if self.total_steps < 1 or self.warmup_steps < 0 or self.decay_steps < 0:
            raise ValueError(f"a schedule needs at least one step: {self}")
        if self.warmup_steps + self.decay_steps > self.total_steps:
            raise ValueError(f"warm-up and decay are longer than the run: {self}")
        if self.knee and not self.decay_begins <= self.knee < min(self.total_steps, self.knee_total):
            raise ValueError(f"a knee is a step of the decay: {self}")
        if not 0 < self.first_batch <= 1:
            raise ValueError(f"a first batch is a share of the whole: {self}")

    @property
    def _planned(self) -> int:
        return self.planned_steps or self.total_steps

    @property
    def decay_begins(self) -> int:
        """The number of the first update whose rate falls; `total_steps` where none does."""
        return self.total_steps - self.decay_steps

    def of_length(self, total_steps: int) -> Schedule:
        """The same with a longer or shorter decay, and nothing else changed."""
        return replace(
            self,
            total_steps=total_steps,
            decay_steps=self.decay_steps + total_steps - self.total_steps,
            planned_steps=0 if total_steps == self._planned else self._planned,
        )

    def bent(self, knee: int, total_steps: int) -> Schedule:
        """The same up to update number `knee` of the decay, and what is left of that over so many steps in all."""
        whole = replace(self.of_length(total_steps), planned_steps=self._planned)
        return replace(whole, knee=knee, knee_total=self.total_steps)

    def share(self, step: int) -> float:
        """How far the run is after so many updates, 0 to 1: as planned up to its decay, and evenly through that (or
        up to its knee, and from there)."""
        begins, planned = self.decay_begins, self._planned
        if step <= begins or not self.planned_steps:
            return step / planned
        gone = 1 - self._left(step, self.decay_steps)
        return (begins + (planned - begins) * gone) / planned

    def _left(self, step: int, decay: int) -> float:
        """What share of a decay of so many steps is left; with a knee, of that which was planned before."""
        if not self.knee:
            return (self.total_steps - step) / decay
        share = (self.knee_total - min(step, self.knee)) / (decay + self.knee_total - self.total_steps)
        return share * min(1.0, (self.total_steps - step) / (self.total_steps - self.knee))

    def multiplier(self, step: int) -> float:
        """For the update number `step`, counted from 0; the first warm-up step is already above zero."""
        size = self.batch_share(step) ** 0.5
        if step < self.warmup_steps:
            return size * (step + 1) / self.warmup_steps
        if step >= self.decay_begins:
            return size * (self.final + (1 - self.final) * self._left(step, self.decay_steps + 1))
        return size

    def batch_share(self, step: int) -> float:
        """The share of a whole batch that update number `step` reads."""
        third = min(2, 3 * step // self._planned)
        return self.first_batch + (1 - self.first_batch) * third / 2

    def batches_before(self, step: int) -> float:
        """Whole batches' worth of rows in all updates before number `step`."""
        starts = [*(-(-self._planned * third // 3) for third in range(3)), max(self._planned, self.total_steps)]
        return sum(
            max(0, min(step, end) - start) * self.batch_share(start) for start, end in pairwise(starts) if end > start
        )

    def rows(self, step: int, batch_rows: int) -> int:
        """The rows of update number `step`, of a whole batch of `batch_rows`."""
        return max(1, round(batch_rows * self.batch_share(step)))
