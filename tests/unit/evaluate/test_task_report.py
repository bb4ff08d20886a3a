"""Reports of tasks: the same figures as the artifact's, and what has no scores of samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.evaluate import evaluate, read_evaluation
from bloomery.evaluate.report_page import render
from bloomery.evaluate.task_report import report_of


def test_a_report_says_what_the_artifact_says(made: Any, tmp_path: Path):
    rows = [{"query": f"if {n}", "choices": ["code", "<b>loop</b>", "return"], "gold": n % 2} for n in range(10)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "texts.jsonl").write_text('{"text": "if code"}\n')
    tasks = [tmp_path / "mine.jsonl", tmp_path / "texts.jsonl"]
    found = evaluate(made.loaded, tasks, workspace=made.workspace)
    report = report_of(found, "mine")
    figure = read_evaluation(found)["tasks"][0]["metrics"]["accuracy"]
    score = report.arms[0].scores["accuracy"]
    assert (score.value, score.low, score.high) == (figure["value"], figure["low"], figure["high"])
    page = render(report_of(found, "mine", against=found))
    assert "<b>loop</b>" not in page and "&lt;b&gt;loop" in page
    for task in ("texts", "nothing"):
        with pytest.raises(ConfigError):
            report_of(found, task)
