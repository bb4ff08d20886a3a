"""Calibration: a ladder of small runs on the user's own corpus, and the scaling law that they tell.

    ladder (which runs, measured) -> rung, one for each size -> scaling_law

Each is a stage with an artifact, so a calibration that was killed goes on where it stopped, and what it cost stands in
the ledger. Later plans for the same tokens find the law. This module does not know how a law is fitted (`fitting`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bloomery.core.artifact import Artifact
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ArtifactError, ConfigError, DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace
from bloomery.energy import open_meter
from bloomery.tokenizer import TokenShards
from bloomery.training.planning.batch import batch_rows
from bloomery.training.planning.fitting import Prior, fit_law
from bloomery.training.planning.ladder import RungConfig, choose_ladder
from bloomery.training.planning.law import DEFAULT_LAW, ScalingLaw, effective_data
from bloomery.training.planning.memory import available_memory, fitting_rows, parts_of
from bloomery.training.planning.plan import MOST_MINUTES, PlanRequest
from bloomery.training.planning.rung import Point, Rung, read_points, settings_of, write_points
from bloomery.training.planning.shapes import LADDER, shaped
from bloomery.training.planning.timing import Timed, fit_step_times
from bloomery.training.speed import bfloat16_is_fast, measure_step

LAW_FILE, LADDER_FILE = "law.json", "ladder.json"
KIND = "scaling_law"
_SAMPLES = 100
# Two runs of the same plan differ by about this much; a law that fits its few points better is still no surer.
_LEAST_SPREAD = 0.01
# In bits per byte. Exponents as published for language models (.29 to .37), what is lost to a million parameters, and
# the text's own entropy: all wide. Runs of a few minutes see hardly anything of the last two.
PRIOR = Prior(
    log_e=(math.log(0.7), 0.4),
    log_a=(math.log(0.25), 0.7),
    alpha=(0.34, 0.08),
    beta=(0.32, 0.12),
    reference=1e6,
    noise=_LEAST_SPREAD,
)
# What the runs of a ladder are without, whatever is asked of the run that they are to predict.
_OF_EVERY_LADDER = {"first_batch": 1.0, "short_rows_fraction": 0.0}
_TIMED = (0, 2, 3)
_TIMED_ON_A_GPU = (0, 3, 6, 9)
# Building models, resuming, writing artifacts: what is not steps.
_STEPS_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """What a calibration may spend, and the schedule of the runs that it is to predict."""

    minutes: float = 5.0
    """Of all runs of the ladder together."""
    warmup_fraction: float = 0.02
    """As in `pretrain`."""
    decay_fraction: float = 0.5
    """As in `pretrain`."""
    seed: int = 0
    """Initial weights and the order of the documents."""

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= MOST_MINUTES:
            raise ConfigError(f"cannot calibrate in {self.minutes:g} minutes", hint="--calibration-minutes 5")
        for name in ("warmup_fraction", "decay_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f'"{name}" of a calibration should be between 0 and 1')


@dataclass(frozen=True, kw_only=True)
class LadderConfig:
    """What the ladder stage decided: it was measured, so it is kept and followed."""

    rungs: tuple[RungConfig, ...]
    batch_rows: int
    micro_rows: tuple[int, ...]
    precision: str


def calibrate(
    tokens: Artifact,
    tokenizer: Artifact,
    request: PlanRequest,
    *,
    config: CalibrationConfig | None = None,
    workspace: Workspace,
    fresh: bool = False,
) -> Artifact:
    """The "scaling_law" of a corpus; an equal call returns the same one unless `fresh`.

    Raises ConfigError when there is too little time, DataError without validation text.
    """
    config = config or CalibrationConfig()
    if TokenShards(tokens, "validation").num_tokens < 2:
        raise DataError(
            "a calibration needs validation text, and this corpus has none", hint="curate.validation_fraction"
        )
    rows = request.batch_rows or batch_rows(0, request.context_length)
    settings = settings_of(dataclasses.replace(request, decay_fraction=config.decay_fraction), batch_rows=rows)
    given = {**to_dict(config), "settings": settings}
    ladder_artifact = _ladder_stage(tokens, tokenizer, request, rows, given, config, workspace, fresh)
    document = json.loads(ladder_artifact.file(LADDER_FILE).read_text(encoding="utf-8"))
    ladder = from_dict(LadderConfig, document, where="ladder")
    rungs = [
        _rung_stage(place, ladder, tokens, tokenizer, request, settings, config.seed, workspace, fresh)
        for place in range(len(ladder.rungs))
    ]
    parents = (tokens.id, tokenizer.id, ladder_artifact.id, *(rung.id for rung in rungs))
    inputs = StageInputs(stage="calibrate", config=given, parents=parents, seed=config.seed)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        points = [point for rung in rungs for point in read_points(rung)]
        with run.phase("fit"):
            law = law_of(points, request.text_bytes, seed=config.seed)
            law = dataclasses.replace(law, batch_tokens=rows * request.context_length)
        folder = run.new_folder("law")
        (folder / LAW_FILE).write_text(json.dumps(law.to_dict(), indent=1), encoding="utf-8")
        return run.publish(folder, kind=KIND, metrics=_metrics(law, points, request))


def law_of(points: Sequence[Point], unique_bytes: float, *, seed: int = 0) -> ScalingLaw:
    """The law of a ladder's points, its interval by the bootstrap."""
    table = [(p.parameters, effective_data(p.bytes_seen, unique_bytes), p.bits_per_byte) for p in points]
    law = fit_law(
        np.array(table), samples=_SAMPLES, seed=seed, prior=PRIOR, origin=f"{len(points)} runs on this corpus"
    )
    return dataclasses.replace(
        law,
        calibrated=True,
        spread_low=max(_LEAST_SPREAD, law.spread_low),
        spread_high=max(_LEAST_SPREAD, law.spread_high),
    )


def find_law(workspace: Workspace, tokens: str, request: PlanRequest) -> tuple[ScalingLaw, str]:
    """The newest law that was calibrated on these tokens, or ours, and what to say of it.

    One that was calibrated with other settings is still better than ours; its interval is widened. The batch is the
    planner's to compare, for where the user fixes none it chooses one; one that was fixed says which law comes first.
    """
    ranked: list[tuple[bool, bool, Artifact]] = []
    for row in workspace.ledger.artifacts(kind=KIND):
        artifact = _published(workspace, row["id"])
        if artifact is None or tokens not in artifact.parents:
            continue
        theirs = artifact.config.get("settings", {}).get("batch_rows")
        other_batch = bool(request.batch_rows) and theirs != request.batch_rows
        ranked.append((bool(_differing(artifact, request)), other_batch, artifact))
    if ranked:
        return law_for(min(ranked, key=lambda one: one[:2])[2], request)  # of equals the first, which is the newest
    return DEFAULT_LAW, f"law: {DEFAULT_LAW.origin}; `bloomery plan --calibrate` fits one to this corpus"


def law_for(artifact: Artifact, request: PlanRequest) -> tuple[ScalingLaw, str]:
    """The law of an artifact for what is asked, wider where the settings are others, and what to say of it."""
    law, differing = read_law(artifact), _differing(artifact, request)
    if not differing:
        return law, f"law: {law.origin} ({artifact.name})"
    return law.wider(), f"law: {law.origin}, but with other {', '.join(differing)}: the interval is wider"


def _differing(artifact: Artifact, request: PlanRequest) -> list[str]:
    """Names of the settings, but for the batch, in which the runs of a law were others than what is asked for."""
    usual = {"warmup_fraction": artifact.config.get("warmup_fraction", CalibrationConfig.warmup_fraction)}
    theirs = {**usual, **_OF_EVERY_LADDER, **artifact.config.get("settings", {})}
    asked = {
        **settings_of(request, batch_rows=0),
        "warmup_fraction": request.warmup_fraction,
        "first_batch": request.first_batch,
        "short_rows_fraction": request.short_rows_fraction,
    }
    return sorted(name for name in asked if name != "batch_rows" and asked[name] != theirs.get(name))


def read_law(artifact: Artifact) -> ScalingLaw:
    """Of a "scaling_law" artifact."""
    law = ScalingLaw.from_dict(json.loads(artifact.file(LAW_FILE).read_text(encoding="utf-8")))
    settings = artifact.config.get("settings", {})
    batch = settings.get("batch_rows", 0) * settings.get("context_length", 0)
    return law if law.batch_tokens else dataclasses.replace(law, batch_tokens=batch)  # files of earlier versions


def _published(workspace: Workspace, identity: str) -> Artifact | None:
    try:
        return workspace.published(identity)
    except (ArtifactError, OSError):
        return None


def _ladder_stage(
    tokens: Artifact,
    tokenizer: Artifact,
    request: PlanRequest,
    rows: int,
    given: dict[str, Any],
    config: CalibrationConfig,
    workspace: Workspace,
    fresh: bool,
) -> Artifact:
    inputs = StageInputs(stage="ladder", config=given, parents=(tokens.id, tokenizer.id), seed=config.seed)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        with run.phase("measure"):
            ladder = measured_ladder(request, rows, config, TokenShards(tokens, "validation").num_tokens, run)
        folder = run.new_folder("ladder")
        (folder / LADDER_FILE).write_text(json.dumps(to_dict(ladder), indent=1), encoding="utf-8")
        return run.publish(folder, kind="ladder", metrics={"rungs": len(ladder.rungs)})


def measured_ladder(
    request: PlanRequest, rows: int, config: CalibrationConfig, validation_tokens: int, run: Run
) -> LadderConfig:
    """The runs that fill the time on this machine: a few shapes are timed, the others follow from those."""
    device, length = request.device, request.context_length
    precision = request.precision
    if precision == "auto":
        precision = "bfloat16" if bfloat16_is_fast(device) else "float32"
    shapes = [shaped(request.base, *rung) for rung in LADDER]
    free = available_memory(device)
    parts = {
        shape: fitting_rows(
            shape,
            parts_of(rows, request.micro_rows),
            context_length=length,
            precision=precision,
            device=device,
            available=free,
            optimizer=request.optimizer,
        )
        for shape in shapes
    }
    shapes = [shape for shape in shapes if parts[shape]]
    timed, forward = [], []
    for place in _TIMED if device.type == "cpu" else _TIMED_ON_A_GPU:
        if place >= len(shapes):
            break
        shape = shapes[place]
        run.progress(0, None, unit="steps", doing=f"timing {shape.num_hidden_layers} layers x {shape.hidden_size}")
        timing = measure_step(
            shape,
            rows=rows,
            micro_rows=parts[shape],
            context_length=length,
            precision=precision,
            device=device,
            optimizer=request.optimizer,
            batches=request.batches,
        )
        timed.append(Timed(shape, rows, length, rows // parts[shape], timing.seconds))
        forward.append(timing.validation_seconds / timing.validation_rows / (timing.seconds / rows))
    if not timed:
        raise ConfigError("no shape of the ladder fits into memory", hint="pretrain.context_length or batch_rows")
    model, share, how = fit_step_times(timed, request.optimizer), max(forward), request.optimizer
    seconds = {
        s: model.seconds(s, rows=rows, context_length=length, parts=rows // parts[s], optimizer=how) for s in shapes
    }
    rungs = choose_ladder(
        shapes,
        step_seconds=seconds.__getitem__,
        validation_seconds=lambda s: seconds[s] * share * validation_tokens / (rows * length),
        seconds=config.minutes * 60 * _STEPS_SHARE,
        decay_fraction=config.decay_fraction,
        warmup_fraction=config.warmup_fraction,
    )
    sizes = [shaped(request.base, rung.num_hidden_layers, rung.hidden_size) for rung in rungs]
    return LadderConfig(
        rungs=tuple(rungs), batch_rows=rows, micro_rows=tuple(parts[size] for size in sizes), precision=precision
    )


def _rung_stage(
    place: int,
    ladder: LadderConfig,
    tokens: Artifact,
    tokenizer: Artifact,
    request: PlanRequest,
    settings: dict[str, Any],
    seed: int,
    workspace: Workspace,
    fresh: bool,
) -> Artifact:
    rung = ladder.rungs[place]
    given = {**to_dict(rung), "precision": ladder.precision, "settings": settings}
    inputs = StageInputs(stage="rung", config=given, parents=(tokens.id, tokenizer.id), seed=seed)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        if fresh:
            shutil.rmtree(run.scratch / "checkpoints", ignore_errors=True)
            (run.scratch / "points.json").unlink(missing_ok=True)
        trained = Rung(
            run,
            rung,
            tokens,
            request,
            batch_rows=ladder.batch_rows,
            micro_rows=ladder.micro_rows[place],
            precision=ladder.precision,
            seed=seed,
        )
        with run.phase("train"):
            points = trained.train()
        folder = run.new_folder("rung")
        write_points(folder, points)
        return run.publish(folder, kind="rung", metrics={"points": [vars(point) for point in points]})


def _metrics(law: ScalingLaw, points: Sequence[Point], request: PlanRequest) -> dict[str, Any]:
    """The constants, the runs, and how far the law is off at each."""
    rows = []
    for point in points:
        expected = law.loss(point.parameters, effective_data(point.bytes_seen, request.text_bytes))
        rows.append({**vars(point), "law": expected, "off": expected / point.bits_per_byte - 1})
    intervals = {
        name: np.percentile([sample[place] for sample in law.samples], (5, 95)).tolist()
        for place, name in enumerate(law.constants)
        if law.samples
    }
    return {
        **law.constants,
        "intervals_90": intervals,
        "runs": rows,
        "device": str(request.device),
    }
