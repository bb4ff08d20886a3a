"""How fast this machine takes a training step: measured on a few real steps, never assumed.

Tries float32 against bfloat16 autocast, and torch.compile where a run is long enough to win back its compiling
time. This module does not know budgets; the planner turns seconds a step into steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from bloomery.core.errors import DeviceError
from bloomery.models import Decoder, ModelConfig
from bloomery.training.causal import causal_loss
from bloomery.training.objective import precision_context
from bloomery.training.optimizers import OptimizerConfig, Optimizers


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of one optimiser step over `rows` x `context_length` tokens, the fastest of those timed.

    `compile_seconds` is what the first compiled step cost beyond an ordinary one (0 without compiling).
    """

    seconds: float
    rows: int
    context_length: int
    precision: str
    compiled: bool
    compile_seconds: float
    parameters: int

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
    compiled: bool = False,
    steps: int = 3,
    seed: int = 0,
) -> StepTime:
    """Time `steps` steps on random tokens after one to warm up; needs as much memory as the real run."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.get_rng_state()
    try:
        model = Decoder(config).to(device)
        optimizers = Optimizers(model, OptimizerConfig(), muon_dtype=muon_dtype(precision))
        hidden_states: Any = torch.compile(model.hidden_states, dynamic=False) if compiled else model.hidden_states
        shape = (rows, context_length + 1)
        ids = torch.randint(0, config.vocab_size, shape, generator=generator).to(device)
        inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        times = []
        for _ in range(steps + 1):
            _synchronize(device)
            started = time.perf_counter()
            with precision_context(device, precision):
                loss = causal_loss(hidden_states, model.output_weight, inputs, labels) / labels.numel()
            loss.backward()
            optimizers.step(1e-6)
            _synchronize(device)
            times.append(time.perf_counter() - started)
    finally:
        torch.set_rng_state(state)
    best = min(times[1:])
    return StepTime(
        seconds=best,
        rows=rows,
        context_length=context_length,
        precision=precision,
        compiled=compiled,
        compile_seconds=max(0.0, times[0] - best) if compiled else 0.0,
        parameters=sum(p.numel() for p in model.parameters()),
    )


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
