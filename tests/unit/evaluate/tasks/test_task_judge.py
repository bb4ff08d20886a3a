"""A task's judge: what its table may say, labels that belong to the answers, and what its scores are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.core.quantity import Quantity
from bloomery.evaluate.tasks import Record, Task, read_task
from bloomery.evaluate.tasks.task_judge import TaskJudge, judged, judging_cost, labelled, read_labels

SCALE = ("wrong", "right")


def record(n: int, verdict: str = "right", **more: Any) -> Record:
    joules = Quantity.exact(2.0, "counter").to_dict()
    told = {"answer": verdict, "in_form": True, "asked": True, "tokens": 10, "seconds": 0.5, "energy_joules": joules}
    scores = {"judge": float(verdict == "right")}
    return Record(id=f"{n}", answer=f"a{n}", scores=scores, details={"judge": told}, **more)


def test_the_table(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"input": "Why?"}\n')
    path = tmp_path / "mine.toml"
    path.write_text('file = "rows.jsonl"\n[judge]\nmodel = "m"\nscale = ["poor", "fair", "good"]\n')
    task = read_task(path)
    assert task.kind == "generation" and task.measured == ("judge",)
    assert task.judge is not None and task.judge.worth("fair") == 0.5
    for wrong, said in (
        ("[judge]\n", "which model judges"),
        ('[judge]\nmodel = "m"\nscale = ["one"]\n', "scale"),
        ('[judge]\nmodel = "m"\nrubrik = "x"\n', "rubric"),
        ('kind = "choice"\n[judge]\nmodel = "m"\n', "free answers"),
        ('metrics = ["judge"]\nkind = "generation"\n', "needs a judge"),
    ):
        path.write_text('file = "rows.jsonl"\n' + wrong)
        with pytest.raises(BloomeryError) as caught:
            read_task(path)
        assert said in caught.value.one_line()
    both = Task(name="t", kind="generation", metrics=("exact", "judge"), judge=TaskJudge(model="m"))
    assert both.measured == ("exact", "judge")


def test_labels_of_another_answer_are_not_used(tmp_path: Path):
    path = tmp_path / "labels.csv"
    path.write_text("id,label,answer\n0,wrong,a0\n1,wrong,something else\n2,right,a2\n")
    found = labelled([record(n) for n in range(4)], read_labels(path, SCALE))
    assert [one.details["judge"].get("label") for one in found] == ["wrong", None, "right", None]
    path.write_text("id,label,answer\n4,fine,a\n")
    with pytest.raises(DataError, match=r"labels\.csv:2.*not on the scale"):
        read_labels(path, SCALE)
    (tmp_path / "no.jsonl").write_text('{"label": "right"}\n')
    with pytest.raises(DataError, match=r"no\.jsonl:1 lacks id"):
        read_labels(tmp_path / "no.jsonl", SCALE)


def test_the_prediction_powered_mean_is_the_published_formula():
    """mean of the judge on what has no label, plus the mean of (label - judge) where there is one (Angelopoulos and
    others, arXiv 2301.09633), for lambda = 1; the interval covers it whatever lambda is chosen."""
    records = [record(n, "right" if n % 4 else "wrong") for n in range(40)]
    labels = [(f"{n}", "right" if n % 3 else "wrong", None) for n in range(12)]
    found = judged(labelled(records, labels), SCALE, name="j", threshold=0.4)
    assert found is not None and found.powered is not None
    judge = np.array([one.scores["judge"] for one in records])
    people = np.array([float(label == "right") for _, label, _ in labels])
    plain = judge[12:].mean() + (people - judge[:12]).mean()
    assert found.value.low <= plain <= found.value.high
    assert found.judged.value == pytest.approx(judge.mean())
    assert found.calibration.labels == 12 and found.calibration.constant == "right"
    assert found.calibration.constant_same == pytest.approx(people.mean())


def test_answers_that_were_not_judged_are_none_of_them():
    gone = Record(id="9", scores={"judge": 0.0}, error="no server", error_code="unavailable")
    found = judged([record(0), record(1), gone], SCALE, name="j", threshold=0.4)
    assert found is not None and found.judged.n == 2 and found.judged.value == 1.0
    assert judged([record(0), gone], SCALE, name="j", threshold=0.4) is None
    cost = judging_cost([record(0), record(1), gone])
    assert (cost["answers"], cost["tokens"], cost["seconds"], cost["energy_joules"]["central"]) == (2, 20, 1.0, 4.0)
    untold = record(2)
    untold.details["judge"]["tokens"] = None
    assert judging_cost([record(0), untold])["tokens"] is None
    with pytest.raises(ConfigError):
        TaskJudge()
