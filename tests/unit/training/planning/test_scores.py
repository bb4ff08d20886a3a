"""Scores are shares of what happened; what is not known is not zero."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.core.quantity import Quantity
from bloomery.tokenizer import Tokenizer
from bloomery.training import pretrain
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
    assert summary["seconds"]["runs"] == 2


def test_what_is_not_known_is_none(material):
    request = plan_request(material.small, material.tokens, Tokenizer.load(material.tokenizer.path))
    plan = make_plan(request)
    plan = replace(plan, seconds=Quantity(low=8.0, central=11.0, high=12.0, method="estimated"))
    spent = Spent(seconds=10.0, joules=Quantity.exact(5.0, "counter"), parts=Components(steps=9.0, start=1.0))
    made = score(plan, spent, bits_per_byte=None)
    assert made["components"]["actual"]["steps"] == 9.0
    assert sum(made["components"]["predicted"].values()) == pytest.approx(plan.predicted_seconds)
    assert made["seconds"]["error"] == pytest.approx(0.1) and made["seconds"]["within"]
    assert made["joules"]["error"] is None and made["joules"]["actual"] == 5.0  # no meter: nothing was predicted
    assert made["bits_per_byte"]["error"] is None and made["bits_per_byte"]["within"] is None
    interrupted = score(plan, None, bits_per_byte=2.0)
    assert "components" not in interrupted
    assert interrupted["seconds"]["error"] is None and interrupted["bits_per_byte"]["error"] is not None
    assert median_errors([])["joules"] == {
        "runs": 0,
        "median_error": None,
        "largest_error": None,
        "within_interval": None,
    }
