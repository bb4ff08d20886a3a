"""Judges of tasks: each model opened once and closed, its answers kept; what cannot be opened is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.budget import Budget, BudgetConfig, BudgetError
from bloomery.core.errors import BloomeryError, RequestError
from bloomery.core.workspace import Workspace
from bloomery.evaluate.opened_judges import OpenedJudges
from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.tasks import Task
from bloomery.evaluate.tasks.task_judge import TaskJudge

SAMPLE, IRON = Sample(id="1", input="What?"), Answered(sample_id="1", text="iron")


def task(name: str, model: str) -> Task:
    return Task(name=name, kind="generation", judge=TaskJudge(model=model))


def test_answers_are_kept_and_budgeted(judge_server: Any, tmp_path: Path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    tasks = [task("a", judge_server.address), task("b", judge_server.address), Task(name="c", kind="text")]
    opened = OpenedJudges(tasks, Workspace(tmp_path / "home"))
    assert set(opened.identities) == {"a", "b"} and len(set(opened.identities.values())) == 1 and not opened.lasting
    budget = Budget(BudgetConfig(requests=1))
    kept = opened.kept(cache, attempt="1", fresh=False, budget=budget)
    for name in ("a", "b", "a"):
        assert kept[name].scorer.score(SAMPLE, IRON).value == 1.0
    assert judge_server.asked == 1 and budget.spent.requests == 1
    with pytest.raises(BudgetError):  # another run asks anew: what the server is may have changed
        opened.kept(cache, attempt="2", fresh=False, budget=budget)["a"].scorer.score(SAMPLE, IRON)
    opened.close()
    cache.close()


def test_a_judge_that_is_none(tmp_path: Path, made: Any):
    with pytest.raises(BloomeryError):
        OpenedJudges([task("a", "nowhere")], made.workspace)
    with pytest.raises(RequestError, match="no server"):
        OpenedJudges([task("a", "http://127.0.0.1:9/v1#m")], made.workspace)
    none = OpenedJudges([Task(name="c", kind="text")], made.workspace)
    assert none.lasting and none.identities == {}
    none.close()
