"""Pacing: a run of minutes keeps to them: as its rate begins to fall it is given the steps that there is time for,
and once more when half of these are done.

A step is timed before the run, and machines change their speed meanwhile (heat, clocks, other programs) by a tenth and
more. With warm-up / stable / decay a run's length need not be known before its decay (Hägele et al., arXiv 2405.18392),
so it is settled there, by what the last steps of the stable part took; halfway through the decay the rest of it is made
longer or shorter, where the machine has another speed by then. What is settled stays, through kills and rollbacks. This
module does not know plans.
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
        step, begins = progress.step, schedule.decay_begins
        planned, most = schedule.total_steps - step, (schedule.planned_steps or schedule.total_steps) - begins
        slower = step_seconds / self.step_seconds
        left = self.seconds - self.elapsed(progress) - self.writing
        left -= max(0.0, self.evaluation * slower - progress.validation_seconds)
        left -= self.checkpoints * planned / schedule.total_steps
        low, high = step + max(1, round(_LEAST * planned)), begins + round(_MOST * most)
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
        """Where the next step is the first whose rate falls, or half of these are done: settle how many there are.
        Whether it was settled now."""
        loop, allowance = self.loop, self.allowance
        progress, before = loop.progress, loop.schedule
        first = not progress.total_steps
        if allowance is None or progress.knee or not before.decay_steps:
            return False
        if progress.step != before.decay_begins + (0 if first else before.decay_steps // 2):
            return False
        steps = loop.ranks.told(lambda: self._length(allowance))
        if first:
            progress.total_steps = steps
        else:
            progress.knee, progress.last_steps = progress.step, steps
        self.take_up(before)
        if steps != before.total_steps:
            loop.run.note(f"{steps:,} steps instead of {before.total_steps:,}, to keep to the time")
        return True

    def take_up(self, schedule: Schedule) -> None:
        """Take a schedule, with what the loop's progress says was settled."""
        progress = self.loop.progress
        if progress.total_steps and not schedule.knee:
            schedule = schedule.of_length(progress.total_steps)
        if progress.knee and progress.last_steps != schedule.total_steps:
            schedule = schedule.bent(progress.knee, progress.last_steps)
        self.loop.schedule = schedule

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
