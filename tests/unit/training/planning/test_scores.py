"""Scores are shares of what happened; what is not known is not zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.quantity import Quantity
from bloomery.tokenizer import Tokenizer
from bloomery.training import pretrain
from bloomery.training.planning import scores as scores_module
from bloomery.training.planning.plan import Components
from bloomery.training.planning.planner import plan as make_plan
from bloomery.training.planning.scores import Spent, median_errors, score, scores
from bloomery.training.pretrain_config import plan_request


def test_of_a_finished_run(material, tmp_path):
    from bloomery.core.workspace import Workspace

    workspace = Workspace(tmp_path)
    model = pretrain(
        material.corpus, material.tokenizer, tokens=material.tokens, config=material.small, workspace=workspace
    )
    (row,) = scores(workspace)
    assert row["model"] == model.name and row["steps"] == 12 and not row["calibrated"]
    reached = row["bits_per_byte"]
    assert reached["actual"] == model.metrics["validation_bits_per_byte"]
    assert reached["error"] == pytest.approx(reached["predicted"]["central"] / reached["actual"] - 1)
    assert row["seconds"]["actual"] > 0 and row["joules"]["actual"] > 0
    parts = row["components"]["actual"]
    assert min(parts[name] for name in ("start", "steps", "evaluation", "checkpoints", "writing")) > 0
    assert sum(parts.values()) <= row["seconds"]["actual"]
    summary = median_errors([row, row])
    assert summary["bits_per_byte"]["median_error"] == pytest.approx(abs(reached["error"]))
    assert summary["seconds"]["runs"] == summary["step_seconds"]["runs"] == 2
    step = row["step_seconds"]
    assert step["actual"] == pytest.approx(parts["steps"] / 12)
    planned = model.metrics["plan"]
    assert step["predicted"]["central"] == pytest.approx(planned["components"]["steps"] / planned["steps"])


def test_steps_are_those_taken(material, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A run of minutes takes as many as it has time for."""
    from bloomery.core.workspace import Workspace

    workspace = Workspace(tmp_path)
    pretrain(material.corpus, material.tokenizer, tokens=material.tokens, config=material.small, workspace=workspace)
    opened = scores_module._opened

    def longer(path: Path) -> Artifact | None:
        artifact = opened(path)
        assert artifact is not None
        score = {name: one for name, one in artifact.metrics["plan_score"].items() if name != "step_seconds"}
        metrics = {**artifact.metrics, "steps": 15, "plan_score": score}
        return replace(artifact, manifest={**artifact.manifest, "metrics": metrics})

    monkeypatch.setattr(scores_module, "_opened", longer)
    (row,) = scores(workspace)
    assert (row["steps"], row["planned_steps"]) == (15, 12)
    assert row["step_seconds"]["error"] is None  # of an earlier version, which did not score it
    assert median_errors([row])["step_seconds"]["runs"] == 0


def test_what_is_not_known_is_none(material):
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    plan = make_plan(request)
    assert plan.components.total == pytest.approx(plan.predicted_seconds)
    plan = replace(plan, seconds=Quantity(low=8.0, central=11.0, high=12.0, method="estimated"))
    spent = Spent(seconds=10.0, joules=Quantity.exact(5.0, "counter"), parts=Components(steps=9.0, start=1.0), steps=18)
    plan = replace(plan, steps=10, components=Components(steps=6.0, start=1.0))
    made = score(plan, spent, bits_per_byte=None)
    assert made["components"]["actual"]["steps"] == 9.0
    # The time was kept, by more steps than planned: 0.5 s each, where 0.6 had been expected.
    step = made["step_seconds"]
    assert step["predicted"]["central"] == pytest.approx(0.6) and step["actual"] == pytest.approx(0.5)
    assert step["error"] == pytest.approx(0.2) and step["within"]
    assert step["predicted"]["low"] == pytest.approx(0.6 * 8 / 11) and step["predicted"]["method"] == "estimated"
    compiled = replace(plan, components=Components(steps=6.0, compiling=2.0))
    assert score(compiled, spent, bits_per_byte=None)["step_seconds"]["predicted"]["central"] == pytest.approx(0.8)
    without = replace(plan, components=Components())  # of earlier versions
    assert score(without, spent, bits_per_byte=None)["step_seconds"]["error"] is None
    assert made["seconds"]["error"] == pytest.approx(0.1) and made["seconds"]["within"]
    assert made["joules"]["error"] is None and made["joules"]["actual"] == 5.0  # no meter: nothing was predicted
    assert made["bits_per_byte"]["error"] is None and made["bits_per_byte"]["within"] is None
    interrupted = score(plan, None, bits_per_byte=2.0)
    assert "components" not in interrupted and interrupted["step_seconds"]["actual"] is None
    assert interrupted["seconds"]["error"] is None and interrupted["bits_per_byte"]["error"] is not None
    assert median_errors([])["joules"] == {
        "runs": 0,
        "median_error": None,
        "largest_error": None,
        "within_interval": None,
    }
