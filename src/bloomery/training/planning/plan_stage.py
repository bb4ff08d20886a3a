"""Planning as a stage: the plan becomes an artifact, so that what measuring it cost is in the ledger.

A plan is measured anew every time, for the machine may be busier than it was. This module does not know how.
"""

from __future__ import annotations

import json
from pathlib import Path

from bloomery.core.artifact import Artifact, disk_errors, write_durably
from bloomery.core.config import to_dict
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.energy import open_meter
from bloomery.training.planning.plan import PLAN_FILE, Plan, PlanRequest
from bloomery.training.planning.planner import plan


def publish_plan(
    request: PlanRequest, tokens: Artifact, tokenizer: Artifact, *, workspace: Workspace, out: Path | None = None
) -> tuple[Artifact, Plan]:
    """Plan, and publish the plan as an artifact of kind "plan"; `out`, a file or a folder, gets a copy of it."""
    given = {"budget": to_dict(request.budget), "base": to_dict(request.base), "device": str(request.device)}
    inputs = StageInputs(stage="plan", config=given, parents=(tokens.id, tokenizer.id))
    with Run(workspace, inputs, meter=open_meter()) as run:
        with run.phase("measure"):
            made = plan(
                request, meter=run.meter, say=lambda text: run.progress(0, None, unit="shapes", doing=text)
            ).for_data(tokens.id, tokenizer.id)
        text = json.dumps(made.to_dict(), indent=1).encode()
        folder = run.new_folder("plan")
        (folder / PLAN_FILE).write_bytes(text)
        artifact = run.publish(folder, kind="plan", metrics={"predicted_seconds": made.predicted_seconds})
    if out is not None and out.is_dir():
        out /= PLAN_FILE
    if out is not None:  # what was measured is kept, wherever this leads
        with disk_errors(f"cannot write {out}; the plan is {artifact.name}"):
            write_durably(out, text)
    return artifact, made
