"""MLflow: one run there for each of ours, at MLFLOW_TRACKING_URI, or in a SQLite file of the workspace.

This module does not know runs or their events.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.tracking.tracker import flattened

if TYPE_CHECKING:
    from bloomery.core.tracking.tracker import Begin

_MOST_CHARACTERS = 500


class _Run:
    def __init__(self, folder: Path, project: str, run: str, stage: str, config: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        folder.mkdir(parents=True, exist_ok=True)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or folder.absolute().as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(project)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(project)
        tags = {"mlflow.runName": run, "stage": stage}
        self._id = self._client.create_run(identity, tags=tags).info.run_id
        params = [Param(key, str(value)[:_MOST_CHARACTERS]) for key, value in flattened(config).items()]
        for start in range(0, len(params), 100):  # MLflow takes no more at a time
            self._client.log_batch(self._id, params=params[start : start + 100])

    def scalars(self, step: int, values: Mapping[str, float], time: float) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(self._id, metrics=[Metric(k, v, int(time * 1000), step) for k, v in values.items()])

    def text(self, step: int, text: str, time: float) -> None:
        self._client.set_tag(self._id, f"note.{int(time * 1000)}", f"step {step}: {text}")

    def close(self, state: str) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if state == "finished" else "FAILED")


def begin(folder: Path, project: str) -> Begin:
    """Runs of the experiment `project`; without MLFLOW_TRACKING_URI they go into `folder`."""
    return lambda run, stage, config: _Run(folder, project, run, stage, config)
