"""Weights & Biases: one run there for each of ours. WANDB_MODE=offline keeps it on this machine.

Steps may go back (a run that rolled back), which W&B's own step may not, so a metric named `step` is the axis. This
module does not know runs or their events.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bloomery.core.tracking.tracker import Begin


class _Run:
    def __init__(self, folder: Path, project: str, run: str, stage: str, config: Mapping[str, Any]) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(silent=True, console="off")
        self._run = wandb.init(
            project=project,
            name=run,
            group=stage,
            config=dict(config),
            dir=str(folder),
            settings=settings,
            reinit="create_new",
        )
        self._run.define_metric("*", step_metric="step")
        self._notes: list[str] = []

    def scalars(self, step: int, values: Mapping[str, float], time: float) -> None:
        self._run.log({"step": step, **values})

    def text(self, step: int, text: str, time: float) -> None:
        self._notes.append(f"step {step}: {text}")
        self._run.summary["notes"] = "\n".join(self._notes)

    def close(self, state: str) -> None:
        self._run.finish(exit_code=0 if state == "finished" else 1)


def begin(folder: Path, project: str) -> Begin:
    """Runs of `project`; their local files go into `folder`."""
    return lambda run, stage, config: _Run(folder, project, run, stage, config)
