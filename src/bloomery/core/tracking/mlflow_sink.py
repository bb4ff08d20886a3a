"""MLflow: one run there for each of ours, at MLFLOW_TRACKING_URI, or in a SQLite file of the workspace.

This module does not know runs or their events.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.tracking.tracker import flattened

if TYPE_CHECKING:
    from bloomery.core.tracking.tracker import Begin

_MOST_CHARACTERS = 500


def _quiet(method: Callable[..., None]) -> Callable[..., None]:
    """Without the deprecation warnings that MLflow gives about its own parts; nobody here can mend them."""

    @wraps(method)
    def call(*given: Any, **named: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            method(*given, **named)

    return call


class _Run:
    @_quiet
    def __init__(self, folder: Path, project: str, run: str, stage: str, config: Mapping[str, Any]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=store(folder))
        experiment = self._client.get_experiment_by_name(project)
        identity = experiment.experiment_id if experiment else self._client.create_experiment(project)
        tags = {"mlflow.runName": run, "stage": stage}
        self._id = self._client.create_run(identity, tags=tags).info.run_id
        params = [Param(key, str(value)[:_MOST_CHARACTERS]) for key, value in flattened(config).items()]
        for start in range(0, len(params), 100):  # MLflow takes no more at a time
            self._client.log_batch(self._id, params=params[start : start + 100])

    @_quiet
    def scalars(self, step: int, values: Mapping[str, float], time: float) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(self._id, metrics=[Metric(k, v, int(time * 1000), step) for k, v in values.items()])

    @_quiet
    def text(self, step: int, text: str, time: float) -> None:
        self._client.set_tag(self._id, f"note.{int(time * 1000)}", f"step {step}: {text}")

    @_quiet
    def close(self, state: str) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if state == "finished" else "FAILED")


def store(folder: Path) -> str:
    """The URI of where runs are kept: the user's own, or a SQLite file in `folder`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.absolute() / 'mlflow.db'}"


def begin(folder: Path, project: str) -> Begin:
    """Runs of the experiment `project`; without MLFLOW_TRACKING_URI they go into `folder`."""
    return lambda run, stage, config: _Run(folder, project, run, stage, config)
