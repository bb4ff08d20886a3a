"""The training loop: steps, validation, checkpoints, and going on exactly where a killed run stopped.

Everything that decides the next step (parameters, optimiser state, data position and packing buffer, random
states, step number) is in each checkpoint, so a run that was killed at any instant and resumed with the same
plan, machine and number of threads ends with bit-equal weights; where it has minutes and no number of steps, from the
moment on at which its length was settled (`pacing`). A loss or gradient that is not sound never touches the
weights: the run goes back and past it (`rollback`), and stops when that does not help. This module does not know sizes,
budgets or files other than checkpoints.
"""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from bloomery.core.artifact import FULL
from bloomery.core.errors import ArtifactError, ConfigError, TrainingError
from bloomery.core.interrupts import interrupts
from bloomery.core.run import Run
from bloomery.models.native.attention_training import is_here
from bloomery.training import checkpoint
from bloomery.training.allocation import keep_memory
from bloomery.training.objective import Batch, Objective, Validation, worth
from bloomery.training.optimizers import Optimizers
from bloomery.training.pacing import Pacing
from bloomery.training.parallel.ranks import ALONE, Ranks
from bloomery.training.pieces import Piece, part_of
from bloomery.training.rollback import Rollback
from bloomery.training.schedule import Schedule

_SMOOTHING = 0.95
_ALL = 1 << 30
_SHORT = {"bits_per_byte": "val bpb"}


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How often the loop looks up from its work."""

    validate_every_steps: int
    """Steps between validations; 0 validates only at the end."""
    validation_batches: int
    """Batches of a validation during training; the last one always covers the whole split."""
    checkpoint_seconds: float
    """Seconds between checkpoints."""
    checkpoint_every_steps: int = 0
    """Steps between checkpoints, beside the seconds; 0 leaves it to the seconds."""
    max_norm: float = 0.0
    """Gradients of a larger norm are scaled down to it (Pascanu et al., arXiv 1211.5063); 0: never."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""
    spike_deviations: float = 0.0
    """Deviations above the median of the last steps at which a loss or gradient norm is a spike (see `guard`); 0: only
    what is not finite is refused."""
    most_rollbacks: int = 5
    """How often the run goes back and past bad data before it stops."""
    keep_best: bool = False
    """Whether the weights of the best validation are what is left at the end; each validation then covers the whole
    split, for only then can they be compared."""


@dataclass
class Progress:
    """What a run has done so far; goes into each checkpoint. Curves are lists of [step, tokens, value]."""

    step: int = 0
    tokens: int = 0
    batches: int = 0
    """Batches read, those that were skipped included."""
    seconds: float = 0.0
    validation_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    """Writing checkpoints, but for the one that holds this."""
    smooth_loss: float = 0.0
    loss_sum: float = 0.0
    """Of all training losses: training-speed estimation (Ru et al., NeurIPS 2021) takes it as a run's standing."""
    losses: list[list[float]] = field(default_factory=list)
    validations: list[list[float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    """Step, figures and headline of the best validation, where that is kept."""
    anchors: list[str] = field(default_factory=list)
    """Names of the checkpoints to go back to, oldest first."""
    recent: list[float] = field(default_factory=list)
    """Seconds of the last steps, as of steps with a whole batch."""
    total_steps: int = 0
    """The run's length, where it was settled as the rate began to fall (see `pacing`); 0: that of its plan."""
    knee: int = 0
    """The step at which it was settled again, with half of the decay done; 0: not yet."""
    last_steps: int = 0
    """The length that it was given there."""
    skipped: list[dict[str, Any]] = field(default_factory=list)
    """Every time that the run went back: step, reason, the step it went back to, batches left out."""


class Loop:
    """Trains an objective's model for `schedule.total_steps` updates of `batch_rows` rows, `micro_rows` at a time.

    `stage` names the table of a recipe in hints. `ranks` are the processes that train together; each has a loop, and
    they take every step and every decision together. With an allowance of time (`pacing`) the decay is as long as
    there is time for. `slower` is the setting to learn half as fast, for hints.
    """

    def __init__(
        self,
        run: Run,
        objective: Objective,
        optimizers: Optimizers,
        schedule: Schedule,
        config: LoopConfig,
        *,
        batch_rows: int,
        micro_rows: int,
        precision: str,
        device: torch.device,
        stage: str = "pretrain",
        ranks: Ranks = ALONE,
        slower: str = "learning_rate_scale=0.5",
    ) -> None:
        if batch_rows % micro_rows:
            raise ConfigError(f"a batch of {batch_rows} rows cannot be cut into micro-batches of {micro_rows}")
        if batch_rows != micro_rows and not objective.divisible:
            raise ConfigError("this loss is of a whole batch: it cannot be computed in parts", hint="micro_rows=0")
        self.run, self.objective, self.optimizers, self.schedule = run, objective, optimizers, schedule
        self.model, self.config = objective.model, config
        self.batch_rows, self.micro_rows = batch_rows, micro_rows
        self.precision, self.device, self.stage, self.ranks = precision, device, stage, ranks
        self.slower = slower
        self.progress, self.pacing = Progress(), Pacing(self)
        self.checkpoints, self.kept = run.scratch / "checkpoints", run.scratch / "best"
        self._last_save = time.perf_counter()
        self._last_said = 0.0
        self._saved_step = 0
        self._headline = ""
        self._interrupted = threading.Event()
        keep_memory()
        self.rollback = Rollback(self)

    def resume(self) -> bool:
        """Take up the newest sound checkpoint; False if there is none, or none that this version can go on from."""
        if self.ranks.leads:
            checkpoint.sweep(self.checkpoints)
            checkpoint.sweep(self.kept)
        found = self.chosen(lambda: checkpoint.latest(self.checkpoints, warn=self.run.note))
        if found is not None and self.config.keep_best and not _says_how(found.state["progress"].get("best")):
            self.run.note(
                f"another version of bloomery took the first {found.step:,} steps, and told the best validation by "
                "another figure: beginning anew"
            )
            if self.ranks.leads:
                shutil.rmtree(self.checkpoints)  # else a kill would go on from them again
            found = None
        if found is None:
            if self.ranks.leads:
                shutil.rmtree(self.kept, ignore_errors=True)  # of an attempt that is not gone on with
            return False
        self.take_up(found)
        if (threads := found.state["threads"]) != torch.get_num_threads():
            self.run.note(f"resumed with {torch.get_num_threads()} threads after {threads}: the last bits may differ")
        if (before := found.state.get("attention")) not in (None, now := self._attention()):
            self.run.note(f"resumed with {now} attention after {before}: the last bits may differ")
        if (ranks := found.state.get("ranks", 1)) != self.ranks.size:
            self.run.note(f"resumed on {self.ranks.size} ranks after {ranks}: the last bits may differ")
        self.run.event("resume", step=found.step, loss_sum=self.progress.loss_sum)
        self.run.note(f"going on from step {found.step:,} of {self.schedule.total_steps:,}")
        return True

    def chosen(self, find: Callable[[], checkpoint.Checkpoint | None]) -> checkpoint.Checkpoint | None:
        """The checkpoint that rank 0 finds, on all ranks; none goes on before all have opened it, so it may go then.
        TrainingError where one cannot."""
        own = find() if self.ranks.leads else None
        name = self.ranks.told(lambda: own.path.name if own is not None else "")
        if not name:
            return None
        found = own if self.ranks.leads else checkpoint.load(self.checkpoints / name)
        (missing,) = self.ranks.agree(found is None)
        if missing:
            raise TrainingError(f"not every rank can read {self.checkpoints / name}", hint="ranks need one file system")
        return found

    def take_up(self, found: checkpoint.Checkpoint) -> None:
        """Stand where a checkpoint was taken, in every respect."""
        self._take(found.model)
        self.ranks.take_state(self.optimizers, found.optimizer)
        state = found.state
        self.objective.load_state_dict(state["objective"])
        self.progress = Progress(**state["progress"])
        self.pacing.take_up(self.schedule)
        self.rollback.guard.load_state_dict(state.get("guard", {}))
        self._saved_step = found.step
        _set_random_state(state["random"], self.device)

    def train(self) -> Validation | None:
        """Run to the end; returns the final validation over the whole split, or None without one."""
        validates = self.objective.can_validate()
        with interrupts(self._interrupted, signal.SIGINT, signal.SIGTERM):
            while self.progress.step < self.schedule.total_steps:
                before = self.progress.step
                self._step()
                settled = self.pacing.settle()
                if validates and self.progress.step > before and self._validation_is_due():  # not where it went back
                    self._validate(None if self.config.keep_best else self.config.validation_batches)
                interrupted, due = self.ranks.agree(self._interrupted.is_set(), settled or self._save_is_due())
                if interrupted or due:
                    self.save()
                if interrupted:
                    raise KeyboardInterrupt
            if self.progress.step > self._saved_step:
                self.save()  # the last validation can take a while, and a kill in it should cost nothing
            final = self._validate(None) if validates else None
            if final is not None and not math.isfinite(final.value):
                self._stop_before_harm(final.value, math.nan)
            return final if final is None or not self.config.keep_best else self._best(final)

    def save(self, *, anchor: bool = False) -> bool:
        """Write a checkpoint of the present state, one to go back to where it is an `anchor`; False, said so, if it
        cannot be: the last one is kept.

        A full disk does not end the run, which may have hours to go; there may be room again by then. The last one
        takes the room of those before, but for the newest that is sound. Weights that are not finite are not written:
        the next loss will show them, or the end, where they are a TrainingError.
        """
        progress, step = self.progress, self.progress.step
        self._last_save = time.perf_counter()
        weights = self.ranks.weights(self.optimizers)
        (harmed,) = self.ranks.agree(not all(bool(part_of(p).isfinite().all()) for p in weights.values()))
        if harmed:
            if step >= self.schedule.total_steps:
                self._stop_before_harm(math.nan, math.nan)
            self.run.note(f"a weight is not finite after step {step:,}, so no checkpoint is written; {self._kept()}")
            return False
        optimizer = self.ranks.state(self.optimizers)
        anchors = self.rollback.names_with(step, anchor=anchor)
        state: dict[str, Any] = {
            "objective": self.objective.state_dict(),
            "progress": {**vars(progress), "anchors": anchors},
            "guard": self.rollback.guard.state_dict(),
            "random": _random_state(self.device),
            "threads": torch.get_num_threads(),
            "attention": self._attention(),
            **({"ranks": self.ranks.size} if self.ranks.size > 1 else {}),
        }
        full = not self._written(weights, optimizer, state, anchors)
        if full and step >= self.schedule.total_steps:
            if self.ranks.leads:
                checkpoint.keep_one(self.checkpoints)
            full = not self._written(weights, optimizer, state, anchors)
        if full:
            self.run.note(f"no room for the checkpoint of step {step:,}; {self._kept()}: free some space meanwhile")
            return False
        progress.anchors, self._saved_step = anchors, step
        progress.checkpoint_seconds += time.perf_counter() - self._last_save
        if self.ranks.leads:
            self._forget_bests()
        return True

    def _attention(self) -> str | None:
        """Whose attention the steps have where it pays; None where it is not asked for."""
        if self.device.type != "cpu" or self.precision != "float32":
            return None
        return "native" if is_here() else "PyTorch's"

    def _written(
        self,
        weights: Mapping[str, torch.Tensor | Piece],
        optimizer: Mapping[str, torch.Tensor | Piece],
        state: Mapping[str, Any],
        anchors: list[str],
    ) -> bool:
        """Write it, each rank its part; False where a disk is full."""
        return _fits(
            lambda: checkpoint.save(
                self.checkpoints,
                self.progress.step,
                model=weights,
                optimizer=optimizer,
                state=state,
                again=len(self.progress.skipped),
                keep=self.config.keep_checkpoints,
                spared=anchors,
                writers=self.ranks,
            )
        )

    def _forget_bests(self) -> None:
        """Remove the kept weights that no checkpoint knows as the best any more."""
        if self.kept.is_dir():
            known = {state["progress"]["best"].get("step") for state in checkpoint.states(self.checkpoints)}
            for path in self.kept.glob("step-*"):
                if int(path.name.removeprefix("step-")) not in known:
                    shutil.rmtree(path, ignore_errors=True)

    def _take(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """The weights of a checkpoint; what is frozen is not in it."""
        missing, unexpected = self.ranks.take_weights(self.model, tensors)
        if unexpected or self.optimizers.named.keys() & set(missing):
            raise ConfigError("the checkpoint belongs to another model", hint="--fresh")

    def _keep_if_best(self, result: Validation) -> None:
        """Write the weights down if no validation was better."""
        best = self.progress.best
        by = result.kept_by or result.headline
        if best and result.worth <= worth(best["values"], by):
            return
        step = self.progress.step
        # After the last step they are what the loop has.
        if step < self.schedule.total_steps and not self._best_written(step):
            self.run.note(
                f"no room for the weights of step {step:,}, the best validation so far; {self._kept_best()}: free some "
                "space meanwhile"
            )
            return
        self.progress.best = self._as_best(result)

    def _as_best(self, result: Validation) -> dict[str, Any]:
        """What `Progress` keeps of the best validation."""
        return {
            "step": self.progress.step,
            "values": dict(result.values),
            "headline": result.headline,
            "kept_by": result.kept_by or result.headline,
        }

    def _best_written(self, step: int) -> bool:
        """Write the weights of a best validation; False where the disk is full."""
        weights = self.ranks.weights(self.optimizers)
        # As many as there are between two checkpoints: a resumed run may yet ask for an earlier one.
        return _fits(
            lambda: checkpoint.save(
                self.kept, step, model=weights, optimizer={}, state={}, keep=_ALL, writers=self.ranks
            )
        )

    def _kept_best(self) -> str:
        best = self.progress.best
        return f"those of step {best['step']:,} are kept" if best else "none were before"

    def _best(self, final: Validation) -> Validation:
        """Take up the weights of the best validation; what it gave. Where they cannot be read the last ones stay."""
        best = self.progress.best
        if best["step"] == self.progress.step:
            return final
        self.ranks.agree(False)  # rank 0 has written them
        found = checkpoint.load(self.kept / checkpoint.name_of(best["step"]))
        (lost,) = self.ranks.agree(found is None)
        if lost or found is None:
            self.run.note(
                f"the weights of step {best['step']:,}, the best validation of all, cannot be read any more: those of "
                "the last step are kept instead"
            )
            self.progress.best = self._as_best(final)
            return final
        self._take(found.model)
        self.run.note(f"the weights of step {best['step']:,} are kept: the best validation of all")
        return Validation(best["values"], best["headline"])

    def _step(self) -> None:
        started = time.perf_counter()
        self.ranks.begin(self.progress.step + 1)
        loss, norm, tokens = self._gradients()
        if trouble := self.rollback.guard.judge(loss, norm):
            if len(self.progress.skipped) >= self.config.most_rollbacks:
                self._stop_before_harm(loss, norm)
            before = self.progress.checkpoint_seconds
            self.rollback.go_back(trouble)
            saving = self.progress.checkpoint_seconds - before
            self.progress.seconds += time.perf_counter() - started - saving
            return
        self.ranks.step(self.optimizers, self.schedule.multiplier(self.progress.step))
        progress = self.progress
        progress.step += 1
        progress.tokens += tokens
        seconds = time.perf_counter() - started
        progress.seconds += seconds
        self.pacing.took(seconds)
        weight = 1 - _SMOOTHING
        bias = 1 - _SMOOTHING**progress.step
        progress.loss_sum += loss
        progress.smooth_loss += weight * (loss - progress.smooth_loss)
        if progress.step % max(1, self.schedule.total_steps // 200) == 0:
            progress.losses.append([progress.step, progress.tokens, progress.smooth_loss / bias])
            self._tell_curve(
                step=progress.step,
                total=self.schedule.total_steps,
                share=self.schedule.share(progress.step),
                tokens=progress.tokens,
                loss=loss,
                loss_sum=progress.loss_sum,
                smooth_loss=progress.smooth_loss / bias,
                gradient_norm=norm,
                rate=self.schedule.multiplier(progress.step - 1),
            )
        self._say(progress.smooth_loss / bias)

    def _tell_curve(self, **point: float) -> None:
        """A listener that has heard enough raises KeyboardInterrupt: the run saves and stops, as by Ctrl-C."""
        try:
            self.run.event("curve", **point)
        except KeyboardInterrupt:
            self._interrupted.set()

    def next_batch(self, ahead: int = 0) -> Batch:
        """The next batch, counted; of the size that it has `ahead` steps from now."""
        self.progress.batches += 1
        return self.objective.next_batch(self.schedule.rows(self.progress.step + ahead, self.batch_rows))

    def _gradients(self) -> tuple[float, float, int]:
        """Accumulate the gradient of the mean loss; returns (loss, gradient norm, items read)."""
        batch = self.next_batch()
        total = self.ranks.accumulate(self.objective, batch, self.micro_rows, self.device, self.precision)
        norm = self.ranks.clip(self.model.parameters(), self.config.max_norm)
        return float(total), float(norm), batch.items

    def _stop_before_harm(self, loss: float, norm: float) -> None:
        again = f" after going back {len(self.progress.skipped)} times" if self.progress.skipped else ""
        raise TrainingError(
            f"step {self.progress.step + 1}: loss {loss:g}, gradient norm {norm:g}; stopped before the step{again}, "
            f"{self._kept()}",
            hint=f"begin anew with --set {self.stage}.{self.slower}, or --set {self.stage}.precision=float32",
        )

    def _kept(self) -> str:
        if self._saved_step:
            return f"the checkpoint of step {self._saved_step} is kept"
        return "no checkpoint was written yet"

    def _validate(self, batches: int | None) -> Validation:
        started = time.perf_counter()
        result = self.ranks.validate(self.objective, batches, self.device, self.precision)
        progress, self._headline = self.progress, result.headline
        progress.validation_seconds += time.perf_counter() - started
        progress.validations.append([progress.step, progress.tokens, result.value])
        self.run.metrics({f"validation_{name}": value for name, value in result.values.items()}, step=progress.step)
        if self.config.keep_best and math.isfinite(result.value):
            self._keep_if_best(result)
        return result

    def _say(self, loss: float) -> None:
        now = time.perf_counter()
        last = self.progress.step == self.schedule.total_steps
        if now - self._last_said < 0.5 and not last:
            return
        self._last_said = now
        live: dict[str, float | str] = {"loss": loss}
        if self.progress.validations:
            live[_SHORT.get(self._headline, self._headline or "validation")] = self.progress.validations[-1][2]
        live[f"{self.objective.unit}/s"] = self.progress.tokens / max(1e-9, self.progress.seconds)
        self.run.progress(self.progress.step, self.schedule.total_steps, unit="steps", **live)

    def _validation_is_due(self) -> bool:
        step, every = self.progress.step, self.config.validate_every_steps
        return bool(every) and step % every == 0 and step < self.schedule.total_steps

    def _save_is_due(self) -> bool:
        if self.rollback.is_anchor(self.progress.step) and self.progress.step != self._saved_step:
            return True
        return time.perf_counter() - self._last_save >= self.config.checkpoint_seconds


def _fits(write: Callable[[], object]) -> bool:
    """Write something; False where the disk is full."""
    try:
        write()
    except ArtifactError as error:
        if getattr(error.__cause__, "errno", None) not in FULL:
            raise
        return False
    return True


def _random_state(device: torch.device) -> dict[str, list[int]]:
    state = {"cpu": torch.get_rng_state().tolist()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device).tolist()
    return state


def _set_random_state(state: dict[str, list[int]], device: torch.device) -> None:
    torch.set_rng_state(torch.tensor(state["cpu"], dtype=torch.uint8))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8), device)


def _says_how(best: Mapping[str, Any] | None) -> bool:
    """Whether a later validation can be compared with the best so far."""
    return not best or best.get("kept_by") in best["values"]
