"""Time of a step for shapes that were not timed: overhead, something for each layer, something for each operation.

    seconds = a + b * layers + c * operations                              a, b, c >= 0

fitted to a few shapes that were timed on this machine, each error counted as a share of its time. What it does not
know: caches and kernels that suit one size better than another, so the shape that is chosen is always timed itself.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from bloomery.core.artifact import fsync, sha256_file
from bloomery.models import ModelConfig
from bloomery.training.optimizers import OptimizerConfig
from bloomery.training.planning.shapes import step_flops, update_flops

_USUAL = OptimizerConfig()


@dataclass(frozen=True)
class StepTimeModel:
    """Seconds from layers and operations, for one machine, device and precision."""

    overhead_seconds: float
    layer_seconds: float
    seconds_per_flop: float

    def seconds(
        self,
        config: ModelConfig,
        *,
        rows: int,
        context_length: int,
        parts: int = 1,
        optimizer: OptimizerConfig = _USUAL,
    ) -> float:
        """One step over `rows` x `context_length` tokens in `parts` parts."""
        one = np.array(_features(config, rows, context_length, parts, optimizer))
        return float(one @ (self.overhead_seconds, self.layer_seconds, self.seconds_per_flop))


@dataclass(frozen=True)
class Timed:
    """A shape, the batch at which it was timed, and the seconds of its step."""

    config: ModelConfig
    rows: int
    context_length: int
    parts: int
    seconds: float


def fit_step_times(timed: Sequence[Timed], optimizer: OptimizerConfig = _USUAL) -> StepTimeModel:
    """The model of the shapes timed; with a single one everything is put down to operations."""
    features = np.array([_features(t.config, t.rows, t.context_length, t.parts, optimizer) for t in timed])
    seconds = np.array([t.seconds for t in timed])
    if len(timed) == 1:
        return StepTimeModel(0.0, 0.0, float(seconds[0] / features[0, 2]))
    # Operations are counted in units of the smallest shape's, so that the columns are of one order.
    unit = features[:, 2].min()
    weighted = features / (1.0, 1.0, unit) / seconds[:, None]
    found, _ = nnls(weighted, np.ones(len(timed)))
    return StepTimeModel(float(found[0]), float(found[1]), float(found[2] / unit))


def _features(
    config: ModelConfig, rows: int, context_length: int, parts: int, optimizer: OptimizerConfig
) -> tuple[float, float, float]:
    work = step_flops(config, rows * context_length, context_length) + update_flops(config, optimizer)
    return 1.0, float(config.num_hidden_layers * parts), work


def checkpoint_rate(folder: Path | None = None, *, size_bytes: int = 4_000_000) -> float:
    """Bytes per second of writing, flushing and hashing a file, as a checkpoint is written."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="bloomery-", suffix=".rate") as file:
        data, path = os.urandom(size_bytes), Path(file.name)
        started = time.perf_counter()
        file.write(data)
        file.flush()
        fsync(path)
        sha256_file(path)
        return size_bytes / max(1e-9, time.perf_counter() - started)
