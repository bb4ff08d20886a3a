"""How fast this machine takes a training step: measured on a few real steps, never assumed.

Tries float32 against bfloat16 autocast, and torch.compile where a run is long enough to win back its compiling
time. This module does not know budgets; the planner turns seconds a step into steps.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.core.errors import ArtifactError, DeviceError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.models import Decoder, ModelConfig
from bloomery.training import checkpoint
from bloomery.training.allocation import keep_memory
from bloomery.training.causal import causal_loss, cut_rows, row_cuts
from bloomery.training.objective import precision_context
from bloomery.training.optimizers import OptimizerConfig, Optimizers

Rows = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""Gives a batch of so many rows: input_ids and labels, (B, T)."""
_ENOUGH_SECONDS = 10.0
_BURSTS = 3
_VALIDATION_ROWS = 64
_CLEARLY_SLOWER = 1.25


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one optimiser step over `rows` x `context_length` tokens.

    `bursts` are the medians of several short measurements, with other work between them, and `seconds` is their median:
    what else a machine does for a moment spoils some of them, and what it does all the time is in most. `low` and
    `high` are the least of the bursts and the 90th percentile of all steps. `first_seconds` is what the first step cost
    beyond an ordinary one, `compile_seconds` the same where it compiled (else 0), `build_seconds` what making the model
    and its optimisers took. `validation_seconds` is a validation's forward pass over `validation_rows` rows,
    `save_seconds` a checkpoint (0: none was written), `short_cost` a step whose rows are each read as several short
    ones over an ordinary one (1: none was timed), `watts` the mean power while the steps ran.
    """

    seconds: float
    rows: int
    context_length: int
    precision: str
    compiled: bool
    compile_seconds: float
    parameters: int
    low: float = 0.0
    high: float = 0.0
    bursts: tuple[float, ...] = ()
    micro_rows: int = 0
    build_seconds: float = 0.0
    first_seconds: float = 0.0
    validation_seconds: float = 0.0
    validation_rows: int = 1
    save_seconds: float = 0.0
    short_cost: float = 1.0
    watts: Quantity = field(default_factory=Quantity.unknown)

    @property
    def tokens_per_second(self) -> float:
        return self.rows * self.context_length / self.seconds

    def joined(self, earlier: StepTime) -> StepTime:
        """With the bursts of an earlier measurement of the same shape and batch."""
        bursts = (*earlier.bursts, *self.bursts)
        validation = min(
            (one.validation_seconds / one.validation_rows, one.validation_seconds, one.validation_rows)
            for one in (self, earlier)
        )
        return replace(
            self,
            bursts=bursts,
            seconds=_median(bursts),
            low=min(earlier.low, self.low),
            high=max(earlier.high, self.high),
            validation_seconds=validation[1],
            validation_rows=validation[2],
            save_seconds=self.save_seconds or earlier.save_seconds,
            short_cost=self.short_cost if self.short_cost < 1 else earlier.short_cost,
            watts=self.watts if self.watts.known else earlier.watts,
        )

    def with_threads(self, found: FewerThreads) -> StepTime:
        """As it would have been with so few threads; building and the first step, in which memory is found, are taken
        to stay as they were."""
        # Not the share of what was timed before: the machine may have been busier then than while both were compared.
        share = found.share if found.seconds is None else found.seconds / self.seconds
        return replace(
            self,
            bursts=tuple(share * one for one in self.bursts),
            seconds=share * self.seconds,
            low=share * self.low,
            high=share * self.high,
            validation_seconds=share * self.validation_seconds,
            # Of a meter that had not moved: what more threads took is at least no less.
            watts=found.watts if found.watts.known else self.watts,
        )


@dataclass(frozen=True, kw_only=True)
class FewerThreads:
    """Steps with fewer threads beside the same steps with more."""

    share: float
    """Their time over that of the others."""
    watts: Quantity
    """Mean power while the steps with fewer ran."""
    seconds: float | None = None
    """Of a step with fewer, the middle one; None is unknown."""


def _median(bursts: tuple[float, ...]) -> float:
    return float(np.median(bursts))


def choose_device(name: str = "") -> torch.device:
    """The named device, or cuda when there is one, else cpu. DeviceError if the named one is absent, or of another
    kind."""
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}", hint="cpu, cuda or cuda:0") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"{device.type} is not supported", hint="cpu, cuda or cuda:0")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError("this machine has no CUDA device that PyTorch can use", hint="device=cpu, or leave it out")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"{name!r} is not here: GPUs are numbered from 0 to {torch.cuda.device_count() - 1}")
    return device


def measure_step(
    config: ModelConfig,
    *,
    rows: int,
    context_length: int,
    precision: str,
    device: torch.device,
    micro_rows: int = 0,
    compiled: bool = False,
    steps: int = 3,
    at_least_seconds: float = 0.0,
    meter: Meter | None = None,
    seed: int = 0,
    optimizer: OptimizerConfig | None = None,
    batches: Rows | None = None,
    folder: Path | None = None,
    short_rows: bool = False,
) -> StepTime:
    """Time at least `steps` steps (fewer when they are very slow), and for that long, in a few bursts, after one to
    warm up.

    Each is what the loop does: a batch is read, from `batches` or as random tokens, parts of `micro_rows` rows, the
    gradient's norm, the update, and the wait for the loss. Between the bursts a validation's forward pass is timed,
    with `short_rows` steps of short rows too, and, once, a checkpoint in `folder`, if one is given. Needs as much
    memory as the real run.
    """
    part = micro_rows or rows
    keep_memory()  # as the loop does
    state = torch.get_rng_state()
    try:
        began = time.perf_counter()
        how = (optimizer or OptimizerConfig(), batches)
        trial = _Trial(config, rows, part, context_length, precision, device, how, compiled=compiled, seed=seed)
        build = time.perf_counter() - began
        first = _timed(trial.step, device)
        cuts = row_cuts(context_length) if short_rows else 1
        found = _in_bursts(trial, steps, at_least_seconds, meter, folder, cuts)
    finally:
        torch.set_rng_state(state)
    middle = _median(found.medians)
    return StepTime(
        seconds=middle,
        low=min(found.medians),
        high=float(np.percentile(found.steps, 90)),
        bursts=found.medians,
        rows=rows,
        micro_rows=part,
        context_length=context_length,
        precision=precision,
        compiled=compiled,
        build_seconds=build,
        first_seconds=max(0.0, first - middle),
        compile_seconds=max(0.0, first - middle) if compiled else 0.0,
        parameters=sum(p.numel() for p in trial.model.parameters()),
        validation_seconds=min(found.validations),
        validation_rows=trial.validation_rows,
        save_seconds=found.save,
        short_cost=found.short_cost,
        watts=_watts(found.used, sum(found.steps)),
    )


def compare_threads(
    config: ModelConfig,
    more: int,
    fewer: int,
    *,
    rows: int,
    context_length: int,
    precision: str,
    device: torch.device,
    micro_rows: int = 0,
    within_seconds: float = 0.0,
    meter: Meter | None = None,
    seed: int = 0,
    optimizer: OptimizerConfig | None = None,
    batches: Rows | None = None,
) -> FewerThreads:
    """Time steps as `measure_step` does with two numbers of threads, in bursts that take turns: what else the machine
    does is done to both. Each warms up for a step.

    All together take about `within_seconds`, but no burst is less than a step, and each number has one; where fewer
    threads are slower by a quarter it stays at that. Of fewer than three turns the one that speaks least for fewer
    threads counts, else the middle one. The number of threads is afterwards what it was, whatever happens.
    """
    keep_memory()
    state, before, began = torch.get_rng_state(), torch.get_num_threads(), time.perf_counter()
    shares, steps, used = list[float](), list[float](), list[Quantity]()
    try:
        how = (optimizer or OptimizerConfig(), batches)
        part = micro_rows or rows
        trial = _Trial(config, rows, part, context_length, precision, device, how, compiled=False, seed=seed)
        for threads in (more, fewer):
            torch.set_num_threads(threads)
            _timed(trial.step, device)
        # One more than there are: each burst ends a little late.
        burst = max(0.0, within_seconds - (time.perf_counter() - began)) / (2 * _BURSTS + 1)
        turn = 0.0
        while len(shares) < _BURSTS and max(shares, default=0.0) < _CLEARLY_SLOWER:
            started = time.perf_counter()
            if shares and started - began + turn > within_seconds:
                break
            torch.set_num_threads(more)
            others = _burst(trial, burst)
            torch.set_num_threads(fewer)
            power = meter.read() if meter else Quantity.unknown()
            times = _burst(trial, burst)
            if meter:
                used.append(meter.read() - power)
            steps += times
            shares.append(float(np.median(times) / np.median(others)))
            turn = time.perf_counter() - started
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(state)
    share = _median(tuple(shares)) if len(shares) == _BURSTS else max(shares)
    return FewerThreads(share=share, watts=_watts(used, sum(steps)), seconds=float(np.median(steps)))


def _burst(trial: _Trial, seconds: float) -> list[float]:
    """Seconds of each of the steps that fill so many, one at least."""
    times = [_timed(trial.step, trial.device)]
    while sum(times) < seconds:
        times.append(_timed(trial.step, trial.device))
    return times


def _watts(used: list[Quantity], seconds: float) -> Quantity:
    """Mean power; unknown of a meter that has not moved, for no step costs nothing."""
    total = sum(used[1:], used[0]) if used else Quantity.unknown()
    return total.scaled(1 / seconds) if total.central else Quantity.unknown()


@dataclass
class _Found:
    """Seconds of steps, burst by burst, of those of short rows, of validations and of a checkpoint; what each burst
    used."""

    bursts: list[list[float]] = field(default_factory=list)
    short: list[float] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)
    used: list[Quantity] = field(default_factory=list)
    save: float = 0.0

    @property
    def steps(self) -> list[float]:
        """Of all bursts."""
        return [one for times in self.bursts for one in times]

    @property
    def medians(self) -> tuple[float, ...]:
        """One a burst."""
        return tuple(float(np.median(times)) for times in self.bursts)

    @property
    def short_cost(self) -> float:
        """The fastest step of short rows over the fastest ordinary one."""
        return min(1.0, min(self.short) / min(self.steps)) if self.short else 1.0


def _in_bursts(
    trial: _Trial, steps: int, at_least_seconds: float, meter: Meter | None, folder: Path | None, cuts: int
) -> _Found:
    """As `measure_step` has it."""
    found, least, share = _Found(), -(-steps // _BURSTS), at_least_seconds / _BURSTS
    for number in range(_BURSTS):
        before, times = meter.read() if meter else Quantity.unknown(), list[float]()
        spent = sum(map(sum, found.bursts))
        # One step of a model that is far too large for this machine can take a minute: that is then enough.
        while sum(times) < share or (len(times) < least and spent + sum(times) < _ENOUGH_SECONDS):
            times.append(_timed(trial.step, trial.device))
        if not times:
            break
        found.bursts.append(times)
        if meter:
            found.used.append(meter.read() - before)
        if number < _BURSTS - 1:
            found.validations.append(_timed(trial.validate, trial.device))
            if cuts > 1:  # the first has memory to find
                found.short.extend(_timed(lambda: trial.step(cuts), trial.device) for _ in range(2))
        if folder is not None and number == 0:
            found.save = trial.save(folder)
    return found


class _Trial:
    """A model with its optimisers that takes steps, with learning rates next to nothing."""

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        part: int,
        context_length: int,
        precision: str,
        device: torch.device,
        how: tuple[OptimizerConfig, Rows | None],
        *,
        compiled: bool,
        seed: int,
    ) -> None:
        self.model = Decoder(config).to(device)
        self.rows, self.part, self.tokens = rows, part, rows * context_length
        self.validation_rows = min(rows, _VALIDATION_ROWS)
        self.precision, self.device = precision, device
        self._optimizers = Optimizers(self.model, how[0], muon_dtype=muon_dtype(precision))
        states = self.model.hidden_states
        self._states: Any = torch.compile(states, dynamic=False) if compiled else states
        self._batches = how[1] or _random_rows(config.vocab_size, context_length, seed)

    def step(self, cuts: int = 1) -> None:
        """One update, its batch read and computed in parts, each row as `cuts` short ones."""
        input_ids, labels = self._batches(self.rows)
        for start in range(0, self.rows, self.part):
            rows = slice(start, start + self.part)
            self._loss(self._states, input_ids[rows], labels[rows], cuts).backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        float(torch.nn.utils.get_total_norm(gradients))
        self._optimizers.step(1e-6)

    @torch.no_grad()
    def validate(self) -> None:
        """A batch's loss without gradients, not compiled, as in a validation."""
        self.model.eval()
        float(self._loss(self.model.hidden_states, *self._batches(self.validation_rows)))
        self.model.train()

    def save(self, folder: Path) -> float:
        """Seconds that a checkpoint takes; it is removed again. 0 where it cannot be written, which preflight says."""
        with tempfile.TemporaryDirectory(dir=folder, prefix="bloomery-") as place:
            started = time.perf_counter()
            optimizer = self._optimizers.state_tensors()
            try:
                checkpoint.save(Path(place), 1, model=self._optimizers.named, optimizer=optimizer, state={})
            except ArtifactError:
                return 0.0
            return time.perf_counter() - started

    def _loss(self, states: Any, input_ids: np.ndarray, labels: np.ndarray, cuts: int = 1) -> torch.Tensor:
        inputs, wanted = (torch.from_numpy(ids).contiguous().to(self.device) for ids in (input_ids, labels))
        with precision_context(self.device, self.precision):
            softcap, weight = self.model.output_softcap, self.model.output_weight
            return causal_loss(states, weight, cut_rows(inputs, cuts), wanted, softcap=softcap) / self.tokens


def _random_rows(vocabulary: int, context_length: int, seed: int) -> Rows:
    """Batches of random tokens."""
    random = np.random.default_rng(seed)

    def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
        ids = random.integers(0, vocabulary, (count, context_length + 1))
        return ids[:, :-1], ids[:, 1:]

    return rows


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that a piece of work takes until the device has done it."""
    _synchronize(device)
    started = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - started


def muon_dtype(precision: str) -> torch.dtype:
    """Newton-Schulz runs in bfloat16 where the run does (its authors' choice), in float32 elsewhere."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def bfloat16_is_fast(device: torch.device, *, size: int = 512, repeats: int = 4) -> bool:
    """Whether a bfloat16 matrix product beats a float32 one here, by measurement (a few milliseconds)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(size, size, dtype=dtype)
        torch.mm(a, a)
        best = float("inf")
        for _ in range(repeats):
            started = time.perf_counter()
            torch.mm(a, a)
            best = min(best, time.perf_counter() - started)
        times[dtype] = best
    return times[torch.bfloat16] < times[torch.float32]


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
