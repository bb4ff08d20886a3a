"""Scores: what a plan said against what happened, for each finished run and for all of a workspace.

An error is a share of what happened: (predicted - actual) / actual. What was not measured, or cannot be compared
because the run was interrupted, is None, never zero. This module does not know how plans are made.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ArtifactError
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.training.planning.plan import Components, Plan

SCORED = ("seconds", "step_seconds", "joules", "bits_per_byte")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a run came to from its plan to its finished model. Compiling is part of the first step."""

    seconds: float
    joules: Quantity
    parts: Components
    steps: int
    """Taken, which in a run of minutes need not be those planned."""


def score(plan: Plan, spent: Spent | None, *, bits_per_byte: float | None) -> dict[str, dict[str, Any]]:
    """Predicted, actual, error and whether the interval held, for each of SCORED; under "components" the parts of the
    time, predicted and actual. Without `spent` time and energy cannot be compared.

    "step_seconds" is a mean step: a run of minutes takes as many as fit, so that its seconds hardly say how well its
    steps were timed."""
    made = {
        "seconds": _one(plan.seconds, spent and spent.seconds),
        "step_seconds": _one(_step_seconds(plan), spent and spent.parts.steps / max(1, spent.steps)),
        "joules": _one(plan.joules, spent and spent.joules.central),
        "bits_per_byte": _one(plan.predicted_bits_per_byte, bits_per_byte),
    }
    if spent is not None:
        made["components"] = {"predicted": vars(plan.components), "actual": vars(spent.parts)}
    return made


def scores(workspace: Workspace) -> list[dict[str, Any]]:
    """Every finished pre-training run that is still on disk, newest first: name, when, plan, steps taken and
    `plan_score`."""
    rows = []
    for entry in workspace.ledger.artifacts(kind="model"):
        for path in workspace.matching(entry["id"], kind="model"):
            artifact = _opened(path)
            if artifact is None or not isinstance(artifact.metrics.get("plan_score"), Mapping):
                continue
            plan = artifact.metrics["plan"]
            unscored = {name: _one(Quantity.unknown(), None) for name in SCORED}  # of runs of earlier versions
            rows.append(
                {
                    "model": artifact.name,
                    "created": entry["created"],
                    "num_hidden_layers": plan["model"]["num_hidden_layers"],
                    "hidden_size": plan["model"]["hidden_size"],
                    "steps": artifact.metrics.get("steps", plan["steps"]),
                    "planned_steps": plan["steps"],
                    "calibrated": plan["calibrated"],
                    **unscored,
                    **artifact.metrics["plan_score"],
                }
            )
    return rows


def median_errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The median absolute error of each of SCORED, the share of intervals that held, and of how many runs."""
    summary = {}
    for name in SCORED:
        known = [row[name] for row in rows if row[name]["error"] is not None]
        errors = [abs(one["error"]) for one in known]
        summary[name] = {
            "runs": len(known),
            "median_error": statistics.median(errors) if errors else None,
            "largest_error": max(errors) if errors else None,
            "within_interval": sum(one["within"] for one in known) / len(known) if known else None,
        }
    return summary


def _step_seconds(plan: Plan) -> Quantity:
    """Of a mean step, as sure as the whole time is. Compiling is part of the first step, as in what was spent."""
    seconds, whole = (plan.components.steps + plan.components.compiling) / plan.steps, plan.seconds
    if whole.low is None or whole.high is None or not whole.central or not seconds:
        return Quantity.unknown()
    low, high = (seconds * bound / whole.central for bound in (whole.low, whole.high))
    return Quantity(low=low, central=seconds, high=high, method="estimated")


def _one(predicted: Quantity, actual: float | None) -> dict[str, Any]:
    made: dict[str, Any] = {"predicted": predicted.to_dict(), "actual": actual, "error": None, "within": None}
    if predicted.low is None or predicted.central is None or predicted.high is None or not actual:
        return made
    return {**made, "error": predicted.central / actual - 1, "within": predicted.low <= actual <= predicted.high}


def _opened(path: Any) -> Artifact | None:
    try:
        return Artifact.open(path, kind="model", verify=False)
    except ArtifactError:
        return None
