"""Tuning: an arm frozen as an artifact: what was chosen on train and dev, and what that took.

A killed process goes on: answers are kept as they come, training has its checkpoints, and an arm that is finished is
taken as it is. This module does not know the test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.arm import Arm, CurveStep, Setting, Tried, Tuned
from bloomery.adapt.comparison.spending import Spending, used
from bloomery.adapt.comparison.task import TaskConfig
from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import canonical_json, to_dict
from bloomery.core.run import Run
from bloomery.core.spent import Spent
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace
from bloomery.energy import open_meter

KIND = "arm"
VERSION = 3
"""Raised with every change of what an arm tries."""
FILES = "files"
"""The folder of what the arm itself keeps."""
_DECIDES = (
    "columns",
    "instruction",
    "metric",
    "seed",
    "max_new_tokens",
    "max_thinking_tokens",
    "choices",
    "choices_column",
    "context",
    "rubric",
)


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """An arm as its artifact tells it."""

    artifact: Artifact
    settings: Mapping[str, Any]
    dev_score: float
    dev_scores: tuple[float, ...]
    labels_used: int
    tried: tuple[Tried, ...]
    notes: tuple[str, ...]
    spent: Spent
    used: float
    """Of the budget; more than 1: its last step ran over."""
    curve: tuple[CurveStep, ...] = ()

    @property
    def folder(self) -> Path:
        return self.artifact.path / FILES


def tune_inputs(arm: Arm, config: TaskConfig, split: Artifact, identity: str, documents: str) -> StageInputs:
    """What a tuned arm depends on."""
    plain = to_dict(config)
    decides = {name: plain[name] for name in _DECIDES}
    return StageInputs(
        stage="compare_arm",
        config={"arm": arm.name, "budget": plain["budget"], **decides},
        parents=(split.id,),
        fingerprint=f"{identity} {documents}",
        seed=config.seed,
        version=VERSION,
    )


def tuned_arm(
    arm: Arm, setting: Setting, inputs: StageInputs, workspace: Workspace, *, fresh: bool = False
) -> Artifact:
    """The arm's artifact: arm.json, and the files that it needs."""
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    meter = open_meter()
    with Run(workspace, inputs, meter=meter) as run:
        folder = run.new_folder()
        (folder / FILES).mkdir()
        work = setting.model.work if setting.model is not None else None
        spending = Spending(setting.config.budget, meter, work=work)
        with run.phase("tune"):
            tuned = arm.tune(setting, spending, folder / FILES)
        spent = spending.spent
        for note in tuned.notes:
            run.note(f"{arm.name}: {note}")
        told = _told(tuned, spent, used(spent, setting.config.budget))
        write_durably(folder / "arm.json", canonical_json(told).encode("utf-8", "backslashreplace"))
        return run.publish(folder, kind=KIND, metrics={"arm": arm.name, "dev_score": tuned.dev_score})


def _told(tuned: Tuned, spent: Spent, share: float) -> dict[str, Any]:
    made = tuned.made or spent
    plain = asdict(replace(tuned, made=None))
    return json.loads(json.dumps({**plain, "spent": made.to_dict(), "used": share}))


def read_arm(artifact: Artifact) -> Frozen:
    """What an arm's artifact holds."""
    told = json.loads(artifact.file("arm.json").read_text(encoding="utf-8"))
    return Frozen(
        artifact=artifact,
        settings=told["settings"],
        dev_score=told["dev_score"],
        dev_scores=tuple(told["dev_scores"]),
        labels_used=told["labels_used"],
        tried=tuple(Tried(**{**one, "scores": tuple(one["scores"])}) for one in told["tried"]),
        notes=tuple(told["notes"]),
        spent=Spent.from_dict(told["spent"]),
        used=told["used"],
        curve=tuple(CurveStep(**one) for one in told["curve"]),
    )
