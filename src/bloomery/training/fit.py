"""Fit: an objective trained within steps, epochs or minutes, by the same loop as everything else.

What `pretrain` plans for a causal model (sizes, batch, expected loss) is here the caller's; only the number of steps
that fit into minutes is found by timing a few of them, which are then taken back. This module does not know any one
objective, nor what becomes of the model.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from bloomery.core.artifact import write_durably
from bloomery.core.config import check_choices
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.run import Run
from bloomery.models.weights import read_json
from bloomery.training.allocation import keep_memory
from bloomery.training.loop import Loop, LoopConfig
from bloomery.training.objective import Objective, Validation
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.parallel.ranks import ALONE, Ranks
from bloomery.training.preflight import preflight as make_preflight
from bloomery.training.schedule import Schedule
from bloomery.training.speed import bfloat16_is_fast, choose_device, muon_dtype
from bloomery.training.trial import taken_back

SPIKE_DEVIATIONS = 12.0
"""Of losses of packed rows: a normal distribution has none that far, and heavy tails few."""
_PLURAL = {"tok": "tokens", "ex": "examples"}
_TIMED_STEPS = 3
_RESERVE = 0.9


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long and how fast."""

    minutes: float = 5.0
    """Minutes of training on this machine, when neither `steps` nor `epochs` is given."""
    steps: int = 0
    """Optimiser steps."""
    epochs: float = 0.0
    """Passes over the examples. Of packed rows of tokens give `steps` or `minutes`."""
    batch_rows: int = 32
    """Rows of a batch: packed rows, or examples."""
    micro_rows: int = 0
    """Rows computed at a time; 0: the whole batch."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for hidden matrices and AdamW for the rest, or AdamW for all."""
    learning_rate: float = 0.0
    """0 takes .02 with Muon, .001 with AdamW; Muon's other rates follow in proportion."""
    embedding_learning_rate: float = 0.0
    """Of tables of embeddings; 0: the same as `learning_rate`. Small batches of blanks want a lower one."""
    weight_decay: float = 0.05
    """Decoupled, of matrices."""
    max_norm: float = 0.0
    """Larger gradients are scaled down to this norm; 0: never."""
    warmup_fraction: float = 0.05
    """Share of the steps in which the learning rate rises."""
    decay_fraction: float = 0.5
    """Share of the steps in which it falls."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 means autocast with float32 weights; auto takes it on a GPU that has it, never on a CPU."""
    device: str = ""
    """cpu, cuda or cuda:0; empty takes a GPU when there is one."""
    seed: int = 0
    """Initial weights, order and labels."""
    validations: int = 8
    """Validations during the run."""
    validation_batches: int = 8
    """Batches of each of them; the last one takes all."""
    keep_best: bool = False
    """The weights of the best validation are what comes out, not the last ones; validations then cover all that is held
    out."""
    spikes: Literal["auto", "roll back", "take"] = "auto"
    """What is done about a loss or gradient far above those before: back to a sound checkpoint and past the data, or
    nothing; auto goes back where rows are packed, for other batches vary by themselves. What is not finite is never
    taken."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept while it trains."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints."""
    checkpoint_every_steps: int = 0
    """Steps between checkpoints, beside the seconds."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not 0 <= value < math.inf:
                raise ConfigError(f'"{name}" should be a number from 0 up, not {value:g}')
        for name in ("batch_rows", "validation_batches", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f'"{name}" should be at least 1')
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ConfigError('"warmup_fraction" and "decay_fraction" together exceed 1')
        if not self.steps and not self.epochs and not self.minutes:
            raise ConfigError("nothing says how long to train", hint="steps, epochs or minutes")

    def rates(self) -> OptimizerConfig:
        """The learning rate of each kind of parameter."""
        if self.optimizer == "adamw":
            rate = self.learning_rate or 1e-3
            return OptimizerConfig(
                matrix_lr=rate,
                embedding_lr=self.embedding_learning_rate or rate,
                head_lr=rate,
                scalar_lr=rate,
                adam_beta2=0.98,
                adam_weight_decay=self.weight_decay,
            )
        usual = OptimizerConfig()
        scale = self.learning_rate / usual.matrix_lr if self.learning_rate else 1.0
        names = [name for name in vars(usual) if name.endswith("_lr")]
        rates = {name: getattr(usual, name) * scale for name in names}
        if self.embedding_learning_rate:
            rates["embedding_lr"] = self.embedding_learning_rate
        return OptimizerConfig(**rates, matrix_weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Fitted:
    """What came of it: the final validation over all that is held out (None without any), and figures of the run."""

    validation: Validation | None
    metrics: dict[str, Any]


def fit(
    run: Run,
    objective: Objective,
    config: FitConfig,
    *,
    steps_an_epoch: float = 0.0,
    stage: str = "",
    preflight: bool = True,
    ranks: Ranks = ALONE,
) -> Fitted:
    """Train the objective's model, in place and on its device; resumes where a killed run of the same key stopped.

    `steps_an_epoch` turns epochs into steps, `preflight` looks for what would spoil the run before its first step.
    `ranks` are the processes that do it together; all of them call this. Raises ConfigError,
    TrainingError, and what `preflight` raises.
    """
    device = ranks.device(choose_device(config.device))
    precision = precision_of(config, device)
    objective.model.to(device).train()
    ranks.attach(objective)
    steps = _steps(run, objective, config, steps_an_epoch, device, precision, ranks)
    optimizers = _optimizers(objective, config, precision)
    ranks.share(optimizers)
    loop = Loop(
        run,
        objective,
        optimizers,
        _schedule(config, steps),
        _loop_config(config, objective, steps),
        batch_rows=config.batch_rows,
        micro_rows=config.micro_rows or config.batch_rows,
        precision=precision,
        device=device,
        stage=stage,
        ranks=ranks,
        slower=f"learning_rate={config.rates().matrix_lr / 2:g}",
    )
    resumed = loop.resume()
    checked = make_preflight(loop) if preflight and not resumed else {}
    with run.phase("train"):
        final = loop.train()
    figures = {f"validation_{name}": value for name, value in final.values.items()} if final else {}
    if figures:
        run.metrics({f"final_{name}": value for name, value in figures.items()})
    told = {"resumed": resumed, **({"preflight": checked} if checked else {})}
    return Fitted(final, {**_done(loop), **told, **figures, **objective.stats(), **_curves(loop)})


def _schedule(config: FitConfig, steps: int) -> Schedule:
    warmup = min(steps, max(1, round(steps * config.warmup_fraction)))
    decay = min(steps - warmup, round(steps * config.decay_fraction))
    return Schedule(total_steps=steps, warmup_steps=warmup, decay_steps=decay)


def _loop_config(config: FitConfig, objective: Objective, steps: int) -> LoopConfig:
    return LoopConfig(
        validate_every_steps=steps // (config.validations + 1) if config.validations else 0,
        validation_batches=config.validation_batches,
        checkpoint_seconds=config.checkpoint_seconds,
        checkpoint_every_steps=config.checkpoint_every_steps,
        max_norm=config.max_norm,
        keep_checkpoints=config.keep_checkpoints,
        spike_deviations=SPIKE_DEVIATIONS if _rolls_back(config, objective) else 0.0,
        keep_best=config.keep_best,
    )


def _done(loop: Loop) -> dict[str, Any]:
    """What a loop that has ended did."""
    progress, unit = loop.progress, loop.objective.unit
    read = _PLURAL.get(unit, unit)
    return {
        "parameters": sum(p.numel() for p in loop.model.parameters()),
        "steps": progress.step,
        f"{read}_read": progress.tokens,
        "training_seconds": progress.seconds,
        "validation_seconds": progress.validation_seconds,
        f"{read}_per_second": progress.tokens / max(1e-9, progress.seconds),
        "precision": loop.precision,
        "device": str(loop.device),
        "skipped": progress.skipped,
        **({"ranks": loop.ranks.size} if loop.ranks.size > 1 else {}),
        **({"best_step": progress.best["step"], "kept_by": progress.best["kept_by"]} if progress.best else {}),
    }


def _curves(loop: Loop) -> dict[str, Any]:
    return {"loss_curve": loop.progress.losses, "validation_curve": loop.progress.validations}


def _rolls_back(config: FitConfig, objective: Objective) -> bool:
    return config.spikes == "roll back" or (config.spikes == "auto" and objective.packed)


def _optimizers(objective: Objective, config: FitConfig, precision: str) -> Optimizers:
    return Optimizers(
        objective.model, config.rates(), muon_dtype=muon_dtype(precision), muon=config.optimizer == "muon"
    )


def precision_of(config: FitConfig, device: torch.device) -> str:
    """ "float32" or "bfloat16": what "auto" is on a device."""
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if device.type == "cuda" and bfloat16_is_fast(device) else "float32"


def _steps(
    run: Run,
    objective: Objective,
    config: FitConfig,
    steps_an_epoch: float,
    device: torch.device,
    precision: str,
    ranks: Ranks,
) -> int:
    if config.steps:
        return config.steps
    if config.epochs:
        if not steps_an_epoch:
            raise ConfigError("epochs of this data are not known", hint="give steps or minutes")
        return max(1, round(config.epochs * steps_an_epoch))
    path = run.scratch / "fit.json"
    # A resumed run keeps the number that it had begun with.
    kept = ranks.told(lambda: read_json(path) if path.is_file() else {})
    if kept:
        if not isinstance(kept.get("steps"), int) or kept["steps"] < 1:
            raise DataError(f"{path} does not say how many steps were begun", hint="begin anew with --fresh")
        return kept["steps"]
    measured = seconds_a_step(objective, config, device, precision, ranks=ranks)
    seconds = ranks.told(lambda: measured)
    steps = max(1, int(config.minutes * 60 * _RESERVE / seconds))
    if ranks.leads:
        write_durably(path, json.dumps({"steps": steps, "seconds_a_step": seconds}).encode())
    run.event("pace", steps=steps, seconds_a_step=seconds)
    run.note(f"{seconds:.3g} s a step: {steps:,} steps fit into {config.minutes:g} minutes")
    return steps


def seconds_a_step(
    objective: Objective, config: FitConfig, device: torch.device, precision: str, *, ranks: Ranks = ALONE
) -> float:
    """The median of a few real steps; weights, data position and random numbers are as before afterwards."""
    return paced(
        objective,
        lambda: _optimizers(objective, config, precision),
        (config.batch_rows, config.micro_rows or config.batch_rows),
        device,
        precision,
        ranks,
    )


def paced(
    objective: Objective,
    make: Callable[[], Optimizers],
    rows: tuple[int, int],
    device: torch.device,
    precision: str,
    ranks: Ranks,
) -> float:
    """`seconds_a_step` with optimisers that `make` gives; `rows` are those of a batch and of a micro-batch."""
    keep_memory()  # as the loop does
    times = []
    with taken_back(objective, device):
        optimizers = make()
        ranks.share(optimizers)
        for _ in range(_TIMED_STEPS + 1):
            started = time.perf_counter()
            batch = objective.next_batch(rows[0])
            ranks.accumulate(objective, batch, rows[1], device, precision)
            ranks.step(optimizers, 1e-6)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
    return sorted(times[1:])[len(times) // 2 - 1]
