"""A rung of the ladder: one size trained once, with decays that branch off, each a point of the scaling law.

The stable part is an ordinary run with checkpoints; before a decay the weights, the optimiser and the place in the data
are put aside, and after it they are taken up again. Killed at any instant, the rung goes on: points are written as they
are found. This module does not know which rungs there are (`ladder`), nor the law (`fitting`).
"""

from __future__ import annotations

import copy
import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import to_dict
from bloomery.core.run import Run
from bloomery.models import Decoder
from bloomery.tokenizer import PackedRows, TokenShards
from bloomery.training.causal import CausalObjective
from bloomery.training.loop import Loop, LoopConfig, Progress
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.planning.batch import rate_scale
from bloomery.training.planning.ladder import RungConfig
from bloomery.training.planning.plan import PlanRequest
from bloomery.training.planning.shapes import LADDER, matrix_parameters, shaped
from bloomery.training.schedule import Schedule
from bloomery.training.speed import muon_dtype

_NEVER = 1e18


@dataclass(frozen=True)
class Point:
    """What one run of the ladder came to."""

    parameters: int
    """Of the attention and feed-forward matrices."""
    steps: int
    bytes_seen: float
    bits_per_byte: float
    """On the whole validation split."""


class Rung:
    """Trains the runs of one rung inside `run`. `request` says how: batch, context, optimiser, device."""

    def __init__(
        self,
        run: Run,
        rung: RungConfig,
        tokens: Artifact,
        request: PlanRequest,
        *,
        batch_rows: int,
        micro_rows: int,
        precision: str,
        seed: int,
    ) -> None:
        self.run, self.rung, self.tokens, self.request = run, rung, tokens, request
        self.batch_rows, self.micro_rows, self.precision = batch_rows, micro_rows, precision
        self.config = shaped(request.base, rung.num_hidden_layers, rung.hidden_size)
        self.file = run.scratch / "points.json"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = Decoder(self.config).to(request.device)
        self.rows = PackedRows(TokenShards(tokens, "train"), context_length=request.context_length, seed=seed)
        self.optimizers = Optimizers(self.model, self._rates(), muon_dtype=muon_dtype(precision))
        self.points = self._read()

    def _rates(self) -> OptimizerConfig:
        """The learning rates that suit a run of middling length: all share their stable part."""
        optimizer, branches = self.request.optimizer, self.rung.branches
        if not self.request.scale_rates:
            return optimizer
        batch = self.batch_rows * self.request.context_length
        scale = rate_scale(batch, batch * math.sqrt(branches[0] * branches[-1]))
        return replace(optimizer, **{name: rate * scale for name, rate in optimizer.rates.items()})

    def train(self) -> list[Point]:
        """Every point, those that an earlier attempt found among them."""
        trunk = self._loop(CausalObjective(self.model, self.rows, None), checkpoint_seconds=60.0)
        trunk.resume()
        for steps in self.rung.branches[len(self.points) :]:
            start = self.rung.start(steps)
            warmup = min(self.rung.warmup_steps, start)
            trunk.schedule = Schedule(total_steps=start, warmup_steps=warmup, decay_steps=0)
            trunk.train()
            self.points.append(self._branch(steps, warmup, trunk))
            write_durably(self.file, json.dumps([vars(point) for point in self.points]).encode())
        return self.points

    def _branch(self, steps: int, warmup: int, trunk: Loop) -> Point:
        """The decay of the run of `steps`, after which everything is as before."""
        weights = {name: value.detach().clone() for name, value in self.optimizers.named.items()}
        state = {name: value.clone() for name, value in self.optimizers.state_tensors().items()}
        place, start = self.rows.state_dict(), trunk.progress.step
        objective = CausalObjective(self.model, self.rows, TokenShards(self.tokens, "validation"))
        loop = self._loop(objective, checkpoint_seconds=_NEVER)
        loop.checkpoints = self.run.scratch / "branch"
        loop.schedule = Schedule(total_steps=steps, warmup_steps=warmup, decay_steps=steps - start)
        loop.progress = Progress(**copy.deepcopy(vars(trunk.progress)))
        result = loop.train()
        assert result is not None, "a ladder is only begun with a validation split"
        shutil.rmtree(loop.checkpoints, ignore_errors=True)
        self.model.load_state_dict(weights, strict=False)
        self.optimizers.load_state_tensors(state)
        self.rows.load_state_dict(place)
        request = self.request
        return Point(
            parameters=matrix_parameters(self.config),
            steps=steps,
            bytes_seen=steps * self.batch_rows * request.context_length * request.text_bytes / request.tokens,
            bits_per_byte=result.values["bits_per_byte"],
        )

    def _loop(self, objective: CausalObjective, *, checkpoint_seconds: float) -> Loop:
        return Loop(
            self.run,
            objective,
            self.optimizers,
            Schedule(total_steps=1, warmup_steps=0, decay_steps=0),
            LoopConfig(validate_every_steps=0, validation_batches=1, checkpoint_seconds=checkpoint_seconds),
            batch_rows=self.batch_rows,
            micro_rows=self.micro_rows,
            precision=self.precision,
            device=self.request.device,
        )

    def _read(self) -> list[Point]:
        if not self.file.is_file():
            return []
        return [Point(**point) for point in json.loads(self.file.read_text(encoding="utf-8"))]


def read_points(artifact: Artifact) -> list[Point]:
    """The points of a published rung."""
    return [Point(**point) for point in json.loads(artifact.file("points.json").read_text(encoding="utf-8"))]


def settings_of(request: PlanRequest, *, batch_rows: int) -> dict[str, Any]:
    """What decides how fast a model learns beside its size and data: a law holds for these."""
    return {
        # One size stands for all: what differs then is an option, not a size.
        "model": to_dict(shaped(request.base, *LADDER[0])),
        "context_length": request.context_length,
        "batch_rows": batch_rows,
        "optimizer": to_dict(request.optimizer),
        "decay_fraction": request.decay_fraction,
    }


def write_points(folder: Path, points: list[Point]) -> None:
    """The file of a rung's artifact."""
    (folder / "points.json").write_text(json.dumps([vars(point) for point in points], indent=1), encoding="utf-8")
