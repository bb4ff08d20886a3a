"""Preflight: what would spoil a run, looked for before its first step.

    room       memory and disk suffice (else an error that names the remedy)
    overlap    nothing that is held out stands in the training data (else a note)
    trial      one batch can be learnt, and a gradient reaches every parameter that is trained (error; note)

Errors are those of the verbs that have --no-preflight; elsewhere what would be one is a note.
The trial takes a few real steps on one part of a batch and takes them back, so the run that follows is the same to the
bit; a run that is hardly longer than its trial has none. Several ranks look together, each at its own memory, and find
the same: what is wrong on one is wrong for all, and rank 0 says so. This module does not know any one objective.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bloomery.core.errors import ArtifactError, BloomeryError, DeviceError, TrainingError
from bloomery.training.causal import CausalObjective
from bloomery.training.objective import Batch, Objective, part_of
from bloomery.training.overlap import overlap
from bloomery.training.room import Room, local, room
from bloomery.training.trial import taken_back

if TYPE_CHECKING:
    from bloomery.training.loop import Loop

_STEPS, _LEAST_STEPS = 8, 3
_SHARE = 0.04
"""Of a run's steps that a trial may take."""
_SECONDS = 15.0
_PEAK = 0.5
"""Of the learning rates, at the trial's last step; they rise to it as in a warm-up."""
_FELL, _LEARNT = 1e-4, 1e-6
_VERBS = {"pretrain": "pretrain", "train.fit": "train"}
"""Stages whose verb has --no-preflight."""
_NAMED = 6


@dataclass(frozen=True)
class Trial:
    """Losses of one part of a batch, step by step, and the trained parameters that no gradient reached."""

    losses: tuple[float, ...]
    unreached: tuple[str, ...]

    @property
    def fell(self) -> bool:
        """Whether any loss was below the first, or there was nothing left to learn."""
        return self.losses[0] <= _LEARNT or min(self.losses[1:]) < self.losses[0] - _FELL * abs(self.losses[0])


def preflight(loop: Loop) -> dict[str, Any]:
    """Look for what would spoil a loop that has not begun; what was found, as plain data. All ranks call it.

    Raises DeviceError (memory), ArtifactError (disk), TrainingError (one batch cannot be learnt), on all of them.
    """
    run, started = loop.run, time.perf_counter()
    with run.phase("preflight"):
        found: dict[str, Any] = {}
        if loop.ranks.leads and (both := overlap(loop.objective)):
            found["held_out"], found["held_out_in_train"] = both.held_out, both.found
            if both.found:
                run.note(
                    f"{both.found:,} of {both.held_out:,} {both.things} that are held out stand in the training data, "
                    "too: validation will look better than it is"
                )
        with taken_back(loop.objective, loop.device):
            batch = loop.objective.next_batch(loop.batch_rows)
            with _uncompiled(loop.objective):
                needed = room(loop, batch)
            _check(loop.ranks.everyone(needed.to_dict()), loop)
            found |= {"memory_bytes": needed.memory_bytes, "disk_bytes": needed.disk_bytes}
            made = trial(loop, batch) if _has_trial(loop.schedule.total_steps) else None
        loop.ranks.take_weights(loop.model, {})  # what else a rank keeps of them
        if made is not None:
            found |= {"trial_losses": list(made.losses), "unreached": list(made.unreached)}
            _judge(made, loop)
        found["seconds"] = time.perf_counter() - started
        run.event("preflight", **found)
    return found


def _has_trial(total_steps: int) -> bool:
    return total_steps * _SHARE >= _STEPS


def trial_seconds(step_seconds: float, total_steps: int) -> float:
    """About what the trial of a run takes, from the seconds of a step over one part of a batch."""
    if not _has_trial(total_steps):
        return 0.0
    return max(_LEAST_STEPS * step_seconds, min(_STEPS * step_seconds, _SECONDS))


def trial(loop: Loop, batch: Batch) -> Trial:
    """A few steps on the first part of a batch, of each rank's share. The caller takes them back; the optimisers' state
    is emptied here."""
    ranks, optimizers, losses = loop.ranks, loop.optimizers, []
    rows = min(loop.micro_rows * ranks.batch_ranks, batch.rows) if loop.objective.divisible else batch.rows
    part = Batch(
        arrays=part_of(batch.arrays, slice(0, rows)), weight=batch.weight * rows / batch.rows, items=batch.items
    )
    unreached = dict.fromkeys(optimizers.named)
    settings = [(group, {k: v for k, v in group.items() if k != "params"}) for group in _groups(loop)]
    started = time.perf_counter()
    for step in range(_STEPS):
        torch.manual_seed(0)  # the same units are dropped every time, so that losses can be compared
        micro = loop.micro_rows if loop.objective.divisible else batch.rows
        losses.append(float(ranks.accumulate(loop.objective, part, micro, loop.device, loop.precision)))
        # A gradient may need a step to come through: what begins with zeros (LoRA's B) holds the rest back.
        names = list(unreached)
        reached = ranks.agree(*(_has_gradient(optimizers.named[name]) for name in names)) if names else ()
        for name, there in zip(names, reached, strict=True):
            if there:
                del unreached[name]
        (late,) = ranks.agree(time.perf_counter() - started > _SECONDS)
        if step + 1 >= _LEAST_STEPS and late:
            break
        ranks.step(optimizers, _PEAK * (step + 1) / _STEPS)
    for optimizer in optimizers.parts.values():
        optimizer.state.clear()
        optimizer.zero_grad(set_to_none=True)
    for group, before in settings:
        group.update(before)
    return Trial(tuple(losses), tuple(unreached))


def _has_gradient(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool(local(parameter.grad).count_nonzero())


def _groups(loop: Loop) -> Iterator[dict[str, Any]]:
    for optimizer in loop.optimizers.parts.values():
        yield from optimizer.param_groups


def _check(everyone: list[dict[str, int]], loop: Loop) -> None:
    """What each rank needs and has, by rank."""
    stage, rooms = loop.stage, [Room(**one) for one in everyone]
    rank = max(range(len(rooms)), key=lambda rank: rooms[rank].memory_bytes - rooms[rank].free_bytes)
    needed = rooms[rank]
    if needed.memory_bytes > needed.free_bytes:
        fit = needed.rows_that_fit
        smaller = (
            f"--set {stage}.micro_rows={_divisor(loop.batch_rows, fit)}" if fit and loop.objective.divisible else ""
        )
        where = f" on rank {rank}" if len(rooms) > 1 else ""
        _refuse(
            loop,
            DeviceError,
            f"a step of {needed.rows} rows needs about {_gib(needed.memory_bytes)} of memory{where}, "
            f"and {_gib(needed.free_bytes)} are free",
            smaller or "a smaller model or batch",
        )
    first = rooms[0]  # it alone writes
    if first.disk_bytes > first.free_disk_bytes:
        _refuse(
            loop,
            ArtifactError,
            f"checkpoints of {_gib(first.checkpoint_bytes)} and the model need about {_gib(first.disk_bytes)} "
            f"of disk, and {_gib(first.free_disk_bytes)} are free in {loop.run.scratch}",
            f"free some space, --home DIR elsewhere, or --set {stage}.keep_checkpoints=1",
        )


def _judge(made: Trial, loop: Loop) -> None:
    if made.unreached:
        names = ", ".join(made.unreached[:_NAMED]) + (", ..." if len(made.unreached) > _NAMED else "")
        total = len(loop.optimizers.named)
        loop.run.note(f"no gradient reaches {len(made.unreached)} of {total} trained parameters: {names}")
    (stuck,) = loop.ranks.agree(not made.fell)  # by the last bit ranks may differ
    if stuck:
        _refuse(
            loop,
            TrainingError,
            f"one batch cannot be learnt: in {len(made.losses)} steps on the same rows the loss went from "
            f"{made.losses[0]:.4g} to {made.losses[-1]:.4g}",
            "a lower learning rate, or look at the labels with `bloomery inspect batch`",
        )


def _refuse(loop: Loop, kind: type[BloomeryError], message: str, remedy: str) -> None:
    """End the run before it begins, where the user can say that it should begin all the same."""
    if loop.stage not in _VERBS:
        return loop.run.note(f"{message} ({remedy})")
    raise kind(message, hint=f"{remedy}; `bloomery {_VERBS[loop.stage]} --no-preflight` trains all the same")


@contextlib.contextmanager
def _uncompiled(objective: Objective) -> Iterator[None]:
    """One row is another shape, for which nothing should be compiled."""
    if not isinstance(objective, CausalObjective):
        yield
        return
    before, objective.hidden_states = objective.hidden_states, objective.model.hidden_states
    try:
        yield
    finally:
        objective.hidden_states = before


def _divisor(rows: int, most: int) -> int:
    """The largest number of rows that a batch can be cut into and that is at most `most`."""
    return next(part for part in range(max(1, min(rows, most)), 0, -1) if rows % part == 0)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.1f} MiB"
