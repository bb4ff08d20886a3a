"""What is told is what MLflow's client finds in its store."""

from __future__ import annotations

import pytest

from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.tracking import TrackConfig, open_trackers
from bloomery.core.workspace import Workspace

pytest.importorskip("mlflow")


def test_its_own_client_finds_it(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tmp_path)
    config = TrackConfig(sinks=("mlflow",), project="iron")
    workspace.listeners = tuple(open_trackers(config, workspace.root))
    with Run(workspace, StageInputs(stage="pretrain", config={"net": {"hidden_size": 64}, "steps": 3})) as run:
        for step in (1, 2, 3):
            run.event("curve", step=step, loss=5.0 - step, smooth_loss=4.0, gradient_norm=1.0, rate=1.0, tokens=step)
        run.note("a note")
    from bloomery.core.tracking.mlflow_sink import store

    client = MlflowClient(tracking_uri=store(tmp_path / "tracking" / "mlflow"))
    experiment = client.get_experiment_by_name("iron")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == run.id and found.info.status == "FINISHED"
    assert found.data.params == {"net.hidden_size": "64", "steps": "3"}
    assert [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")] == [(1, 4), (2, 3), (3, 2)]
    assert "step 3: a note" in found.data.tags.values()
