"""The evaluation stage on a model that was trained here: artifact, reuse, kill, comparison, contamination."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.errors import ConfigError, DataError
from bloomery.corpus import read_documents
from bloomery.evaluate import EvaluateConfig, evaluate, read_evaluation, read_records
from bloomery.evaluate.tasks import Subject

ROWS = [
    {
        "question": f"value {n} if",
        "choices": {"text": ["code return", "日本 loop", "none"], "label": ["A", "B", "C"]},
        "answerKey": "ABC"[n % 3],
    }
    for n in range(12)
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, made: Any) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "arc_easy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    document = next(iter(read_documents(made.corpus, "train"))).text
    lines = [{"input": "if code " * 6, "target": "value"}, {"input": " ".join(document.split()[:14]), "target": "if"}]
    (folder / "free.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    return folder


def test_an_evaluation_is_an_artifact(made: Any, data: Path):
    config = EvaluateConfig(limit=9)
    found = evaluate(made.model, ["arc_easy"], config=config, data=data, workspace=made.workspace)
    (result,) = read_evaluation(found)["tasks"]
    records = read_records(found, "arc_easy")
    assert result["samples"] == len(records) == 9 and found.kind == "evaluation"
    right = sum(record.scores["accuracy"] for record in records)
    assert result["metrics"]["accuracy"]["value"] == pytest.approx(right / 9)
    assert found.metrics["arc_easy.accuracy"] == result["metrics"]["accuracy"]["value"]
    assert made.model.id in found.parents and made.corpus.id in found.parents
    assert evaluate(made.model, ["arc_easy"], config=config, data=data, workspace=made.workspace).id == found.id
    more = evaluate(made.model, ["arc_easy"], data=data, workspace=made.workspace)
    assert read_evaluation(more)["tasks"][0]["cached"] == 9  # the others were asked


def test_bl_evaluate_is_the_stage_before_and_after_its_package_is_imported(made: Any, data: Path):
    import bloomery as bl

    importlib.import_module("bloomery.evaluate")
    found = bl.evaluate(made.loaded, ["arc_easy"], config=EvaluateConfig(limit=2), data=data, workspace=made.workspace)
    assert found.kind == "evaluation"
    script = (
        "import bloomery as bl; print(callable(bl.evaluate)); import bloomery.evaluate; print(callable(bl.evaluate))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]


def test_contamination_is_reported_with_the_clean_score(made: Any, data: Path):
    found = evaluate(made.model, [data / "free.jsonl"], data=data, workspace=made.workspace)
    (result,) = read_evaluation(found)["tasks"]
    clean, dirty = read_records(found, "free")
    assert dirty.contaminated and not clean.contaminated
    told = result["contamination"]
    assert told["contaminated"] == 1 and told["clean_metrics"]["exact_match"]["samples"] == 1
    assert told["documents"] == made.corpus.metrics["documents"]["train"]


def test_two_models_are_compared_sample_by_sample(made: Any, data: Path, tmp_path: Path):
    import torch

    from bloomery.engine import load

    other = load(made.model.path)
    with torch.no_grad():
        for weight in other.decoder.parameters():  # type: ignore[union-attr]
            weight.mul_(0.5)
    how: dict[str, Any] = {"data": data, "workspace": made.workspace}
    before = evaluate(other, ["arc_easy"], **how)  # type: ignore[arg-type]
    found = evaluate(made.model, ["arc_easy"], against=before, **how)
    document = read_evaluation(found)
    assert before.id in found.parents and document["against"]["artifact"] == before.name
    accuracy = next(one for one in document["against"]["comparisons"] if one["metric"] == "accuracy")
    values = [sum(r.scores["accuracy"] for r in read_records(one, "arc_easy")) / 12 for one in (found, before)]
    assert accuracy["difference"]["difference"]["value"] == pytest.approx(values[0] - values[1])


SLOW = """
import sys, time
from bloomery.engine.likelihoods import EngineLikelihoods
from bloomery.evaluate import evaluate
before = EngineLikelihoods._score
def slow(self, one):
    time.sleep(0.15)
    return before(self, one)
EngineLikelihoods._score = slow
evaluate(sys.argv[1], ["arc_easy"], data=sys.argv[2], workspace=sys.argv[3])
"""


def test_a_kill_loses_only_what_was_under_way(made: Any, data: Path, tmp_path: Path):
    home = tmp_path / "home"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(made.model.path), str(data), str(home)])
    end = time.monotonic() + 60
    kept = 0
    while time.monotonic() < end and kept < 6:
        time.sleep(0.1)
        if (home / "answers.sqlite").is_file():
            cache = AnswerCache(home / "answers.sqlite")
            kept = cache.count()
            cache.close()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cache = AnswerCache(home / "answers.sqlite")
    kept = cache.count()
    cache.close()
    assert 6 <= kept < 36
    found = evaluate(str(made.model.path), ["arc_easy"], data=data, workspace=home)
    records = read_records(found, "arc_easy")
    whole = evaluate(str(made.model.path), ["arc_easy"], data=data, workspace=tmp_path / "other")
    assert [record.nats for record in records] == [record.nats for record in read_records(whole, "arc_easy")]
    assert found.manifest["failed_attempts"] == 1


def test_mistakes(made: Any, data: Path, tmp_path: Path):
    how: dict[str, Any] = {"data": data, "workspace": made.workspace}
    with pytest.raises(ConfigError):
        evaluate(made.model, [], **how)
    with pytest.raises(ConfigError, match="twice"):
        evaluate(made.model, ["arc_easy", "arc_easy"], **how)
    with pytest.raises(DataError):
        evaluate(made.model, ["piqa"], **how)
    with pytest.raises(ConfigError):
        EvaluateConfig(limit=0)
    with pytest.raises(ConfigError):
        EvaluateConfig(few_shot=-1)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no samples"):
        evaluate(made.model, [tmp_path / "empty.jsonl"], **how)
    assert Subject(name="x").chat is None
