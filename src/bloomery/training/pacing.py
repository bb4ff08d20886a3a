"""Pacing: a run of minutes keeps to them: as its rate begins to fall it is given the steps that there is time for.

A step is timed before the run, and machines change their speed meanwhile (heat, clocks, other programs) by a tenth and
more. With warm-up / stable / decay a run's length need not be known before its decay (Hägele et al., arXiv 2405.18392),
so it is settled there, by what the last steps of the stable part took. It is settled once and stays, through kills and
rollbacks. This module does not know plans.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bloomery.training.schedule import Schedule

if TYPE_CHECKING:
    from bloomery.training.loop import Loop, Progress

REMEMBERED_STEPS = 256
_WINDOW_SHARE, _LEAST_STEPS = 10, 8
"""The last tenth of the steps says what one takes; of fewer than eight nothing is said."""
_UNUSUAL = 3.0
"""Times the median from which a step is left out: one that compiled, or in which the machine stood still."""
_LEAST, _MOST = 0.5, 2.0
"""Bounds of a decay, as shares of what was planned: more than that is no drift, and the plan was of another machine."""
_WORTH = 0.02
"""Share of the decay below which a difference is none: the steps stay those of the plan."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The time that a plan gives a run, in seconds, and what it is to be used for beside steps."""

    seconds: float
    """From the plan to the finished model."""
    step_seconds: float
    """What the plan expects of a step with a whole batch."""
    evaluation: float
    checkpoints: float
    writing: float
    ordinary_from: int
    """The first step that is like those of the decay: before it rows are short."""
    elapsed: Callable[[Progress], float]
    """Seconds of it that have passed."""

    def total_steps(self, schedule: Schedule, progress: Progress, step_seconds: float) -> int:
        """Steps in all, for the rest of which there is time where one takes `step_seconds`."""
        planned, step = schedule.decay_steps, progress.step
        slower = step_seconds / self.step_seconds
        left = self.seconds - self.elapsed(progress) - self.writing
        left -= max(0.0, self.evaluation * slower - progress.validation_seconds)
        left -= self.checkpoints * planned / schedule.total_steps
        low, high = step + max(1, round(_LEAST * planned)), step + round(_MOST * planned)
        while high > low:
            middle = (low + high + 1) // 2
            longer = schedule.of_length(middle)
            batches = longer.batches_before(middle) - longer.batches_before(step)
            low, high = (middle, high) if batches * step_seconds <= left else (low, middle - 1)
        return low if abs(low - schedule.total_steps) > _WORTH * planned else schedule.total_steps


class Pacing:
    """Of one loop; without an allowance its length is that of its schedule."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.allowance: Allowance | None = None

    def took(self, seconds: float) -> None:
        """The step that was just taken took so long."""
        progress = self.loop.progress
        progress.recent.append(seconds / self.loop.schedule.batch_share(progress.step - 1))
        del progress.recent[:-REMEMBERED_STEPS]

    def settle(self) -> bool:
        """Where the next step is the first whose rate falls: settle how many there are. Whether it was settled now."""
        loop, allowance = self.loop, self.allowance
        progress, planned = loop.progress, loop.schedule
        if allowance is None or progress.total_steps:
            return False
        if not planned.decay_steps or progress.step != planned.decay_begins:
            return False
        progress.total_steps = loop.ranks.told(lambda: self._length(allowance))
        loop.schedule = planned.of_length(progress.total_steps)
        if progress.total_steps != planned.total_steps:
            loop.run.note(f"{progress.total_steps:,} steps instead of {planned.total_steps:,}, to keep to the time")
        return True

    def _length(self, allowance: Allowance) -> int:
        loop = self.loop
        seconds = usual_seconds(loop.progress, loop.schedule.total_steps, allowance.ordinary_from)
        if seconds is None:
            return loop.schedule.total_steps
        return allowance.total_steps(loop.schedule, loop.progress, seconds)


def usual_seconds(progress: Progress, total_steps: int, ordinary_from: int) -> float | None:
    """The mean of the last steps, unusual ones aside; None where there are too few like those to come."""
    window = min(max(_LEAST_STEPS, total_steps // _WINDOW_SHARE), progress.step - ordinary_from)
    recent = progress.recent[-window:] if window >= _LEAST_STEPS else []
    if len(recent) < _LEAST_STEPS:
        return None
    limit = _UNUSUAL * statistics.median(recent)
    return statistics.fmean(seconds for seconds in recent if seconds <= limit)
