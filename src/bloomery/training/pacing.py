"""Pacing: a run of minutes keeps to them: as its rate begins to fall it is given the steps that there is time for.

A step is timed before the run, and machines change their speed meanwhile (heat, clocks, other programs) by a tenth and
more. With warm-up / stable / decay a run's length need not be known before its decay (Hägele et al., arXiv 2405.18392),
so it is settled there, by what the last steps of the stable part took. This module does not know the loop, nor plans.
"""

from __future__ import annotations

from dataclasses import dataclass

from bloomery.training.schedule import Schedule

_LEAST, _MOST = 0.5, 2.0
"""Bounds of a decay, as shares of what was planned: more than that is no drift, and the plan was of another machine."""
_WORTH = 0.02
"""Share of the decay below which a difference is none: the steps stay those of the plan."""


@dataclass(frozen=True, kw_only=True)
class Elapsed:
    """Where a run stands as its rate is about to fall; in seconds, `step_seconds` for a step with a whole batch."""

    step: int
    steps: float
    evaluation: float
    checkpoints: float
    step_seconds: float


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """Seconds that a plan gives a loop for its steps, validations and checkpoints."""

    steps: float
    evaluation: float
    checkpoints: float

    def total_steps(self, schedule: Schedule, elapsed: Elapsed) -> int:
        """Steps in all, for the rest of which there is time."""
        planned, step = schedule.decay_steps, elapsed.step
        done = schedule.batches_before(step) / schedule.batches_before(schedule.total_steps)
        slower = elapsed.steps / (self.steps * done) if self.steps and done else 1.0
        left = self.steps + self.evaluation + self.checkpoints
        left -= elapsed.steps + elapsed.evaluation + elapsed.checkpoints
        left -= max(0.0, self.evaluation * slower - elapsed.evaluation)
        left -= self.checkpoints * planned / schedule.total_steps
        low, high = step + max(1, round(_LEAST * planned)), step + round(_MOST * planned)
        while high > low:
            middle = (low + high + 1) // 2
            longer = schedule.of_length(middle)
            batches = longer.batches_before(middle) - longer.batches_before(step)
            low, high = (middle, high) if batches * elapsed.step_seconds <= left else (low, middle - 1)
        return low if abs(low - schedule.total_steps) > _WORTH * planned else schedule.total_steps
