"""How fast this machine takes a training step: measured on a few real steps, never assumed.

Tries float32 against bfloat16 autocast, and torch.compile where a run is long enough to win back its compiling
time. This module does not know budgets; the planner turns seconds a step into steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from bloomery.core.errors import DeviceError
from bloomery.core.quantity import Quantity
from bloomery.core.run import Meter
from bloomery.models import Decoder, ModelConfig
from bloomery.training.allocation import keep_memory
from bloomery.training.causal import causal_loss
from bloomery.training.objective import precision_context
from bloomery.training.optimizers import OptimizerConfig, Optimizers

_ENOUGH_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one optimiser step over `rows` x `context_length` tokens: the median of those timed.

    `low` and `high` are the 10th and 90th percentile, `compile_seconds` what the first compiled step cost beyond an
    ordinary one (0 without compiling), `forward_seconds` a validation's forward pass over as many rows as are computed
    at a time, `watts` the mean power while the steps ran.
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
    micro_rows: int = 0
    forward_seconds: float = 0.0
    watts: Quantity = field(default_factory=Quantity.unknown)

    @property
    def tokens_per_second(self) -> float:
        return self.rows * self.context_length / self.seconds


def choose_device(name: str = "") -> torch.device:
    """The named device, or cuda when there is one, else cpu. DeviceError if the named one is absent."""
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}", hint="cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError("this machine has no CUDA device that PyTorch can use", hint="device=cpu, or leave it out")
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
) -> StepTime:
    """Time at least `steps` steps on random tokens (fewer when they are very slow), and for that long, after one to
    warm up.

    Each is what the loop does: parts of `micro_rows` rows, the gradient's norm, the update, and the wait for the loss.
    Needs as much memory as the real run.
    """
    part = micro_rows or rows
    keep_memory()  # as the loop does
    state = torch.get_rng_state()
    try:
        trial = _Trial(config, rows, part, context_length, precision, device, compiled=compiled, seed=seed)
        first = _timed(trial.step, device)
        before, times = meter.read() if meter else Quantity.unknown(), list[float]()
        # One step of a model that is far too large for this machine can take a minute: that is then enough.
        while sum(times) < at_least_seconds or (len(times) < steps and sum(times) < _ENOUGH_SECONDS):
            times.append(_timed(trial.step, device))
        used = (meter.read() - before) if meter else Quantity.unknown()
        forward_seconds = min(_timed(trial.validate, device) for _ in range(2))
    finally:
        torch.set_rng_state(state)
    low, middle, high = (float(value) for value in np.percentile(times, (10, 50, 90)))
    return StepTime(
        seconds=middle,
        low=low,
        high=high,
        rows=rows,
        micro_rows=part,
        context_length=context_length,
        precision=precision,
        compiled=compiled,
        compile_seconds=max(0.0, first - middle) if compiled else 0.0,
        parameters=sum(p.numel() for p in trial.model.parameters()),
        forward_seconds=forward_seconds,
        watts=used.scaled(1 / sum(times)),
    )


class _Trial:
    """A model with its optimisers that takes steps on one batch of random tokens."""

    def __init__(
        self,
        config: ModelConfig,
        rows: int,
        part: int,
        context_length: int,
        precision: str,
        device: torch.device,
        *,
        compiled: bool,
        seed: int,
    ) -> None:
        self.model = Decoder(config).to(device)
        self.parts, self.tokens = max(1, rows // part), rows * context_length
        self.precision, self.device = precision, device
        self._optimizers = Optimizers(self.model, OptimizerConfig(), muon_dtype=muon_dtype(precision))
        states = self.model.hidden_states
        self._states: Any = torch.compile(states, dynamic=False) if compiled else states
        generator = torch.Generator().manual_seed(seed)
        self._ids = torch.randint(0, config.vocab_size, (part, context_length + 1), generator=generator)

    def step(self) -> None:
        """One update, its batch computed in parts."""
        for _ in range(self.parts):
            self._loss(self._states).backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        float(torch.nn.utils.get_total_norm(gradients))
        self._optimizers.step(1e-6)

    @torch.no_grad()
    def validate(self) -> None:
        """A part's loss without gradients, not compiled, as in a validation."""
        float(self._loss(self.model.hidden_states))

    def _loss(self, states: Any) -> torch.Tensor:
        inputs, labels = (ids.contiguous().to(self.device) for ids in (self._ids[:, :-1], self._ids[:, 1:]))
        with precision_context(self.device, self.precision):
            softcap, weight = self.model.output_softcap, self.model.output_weight
            return causal_loss(states, weight, inputs, labels, softcap=softcap) / self.tokens


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
