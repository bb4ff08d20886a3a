"""Rollback: what a loop does about a step that would do harm: back to a sound checkpoint, and on past the data.

The run takes up the newest anchor (a checkpoint written at a step number that depends on the plan alone) that is far
enough behind the trouble not to carry it, reads past the batches between there and the trouble, and trains on with the
ones after (Chowdhery et al., "PaLM", arXiv 2204.02311, section 5.1). Where no anchor was written yet the batch alone is
left out: the weights have not seen it. What was skipped stands in every later checkpoint, so a run that is killed and
resumed goes back at the same steps to the same places. This module does not know what a bad step is (see `guard`).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from bloomery.training import checkpoint
from bloomery.training.guard import Guard

if TYPE_CHECKING:
    from bloomery.training.loop import Loop

_ANCHORS = 2
_LEAST_STEPS, _MOST_STEPS, _SHARE = 20, 500, 10
_BEHIND = 8
"""Steps that an anchor should be behind the trouble."""


def anchor_every(total_steps: int) -> int:
    """Steps between the anchors of a run."""
    return min(_MOST_STEPS, max(_LEAST_STEPS, total_steps // _SHARE))


class Rollback:
    """Of one loop: the guard, the anchors and the way back."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.guard = Guard(loop.config.spike_deviations)
        self._every = anchor_every(loop.schedule.total_steps)

    def is_anchor(self, step: int) -> bool:
        """Whether the checkpoint after this many steps is one to go back to."""
        own = self.loop.config.checkpoint_every_steps
        return step > 0 and (step % self._every == 0 or bool(own and step % own == 0))

    def names_with(self, step: int, *, anchor: bool = False) -> list[str]:
        """Names of the anchors that count once the checkpoint of `step` is written; `anchor` makes it one."""
        progress = self.loop.progress
        if not anchor and not self.is_anchor(step):
            return progress.anchors
        others = [one for one in progress.anchors if checkpoint.step_of(one) != step]
        return [*others, checkpoint.name_of(step, len(progress.skipped))][-_ANCHORS:]

    def go_back(self, reason: str) -> None:
        """Leave the step that is `reason`'s untaken, and stand behind the data that led to it."""
        loop = self.loop
        loop.ranks.rest()  # what follows takes as long as disks do
        for parameter in loop.optimizers.named.values():
            parameter.grad = None
        at, before = loop.progress.step + 1, loop.progress
        anchor = loop.chosen(lambda: self._anchor(at))
        entry: dict[str, Any] = {"step": at, "reason": reason, "back_to": before.step, "batches": 1}
        if anchor is None:
            before.skipped.append(entry)
            self._say(
                entry, f"there is no checkpoint of {_BEHIND} steps before or more, so this batch alone is skipped"
            )
            return
        loop.take_up(anchor)
        entry |= {"back_to": anchor.step, "batches": before.batches - loop.progress.batches}
        for ahead in range(entry["batches"]):
            loop.next_batch(ahead)
        progress = loop.progress
        progress.skipped = [*before.skipped, entry]
        # What was computed and taken back was computed all the same, and a length once settled stays.
        for name in ("seconds", "validation_seconds", "checkpoint_seconds", "total_steps", "knee", "last_steps"):
            setattr(progress, name, getattr(before, name))
        self._say(entry, f"back to the checkpoint of step {anchor.step:,}; {entry['batches']} batches are skipped")
        loop.save(anchor=True)

    def _anchor(self, at: int) -> checkpoint.Checkpoint | None:
        """The newest sound anchor that is far enough behind; None without one."""
        behind = min(_BEHIND, (self.loop.config.checkpoint_every_steps or self._every) // 2)
        for name in reversed(self.loop.progress.anchors):
            found = checkpoint.load(self.loop.checkpoints / name)
            if found is not None and at - found.step > behind:
                return found
        return None

    def _say(self, entry: dict[str, Any], done: str) -> None:
        self.loop.run.event("rollback", **entry, at=time.time())
        self.loop.run.note(f"step {entry['step']:,}: {entry['reason']}; {done}")
