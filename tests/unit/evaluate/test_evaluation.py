"""The evaluation stage on a model that was trained here: artifact, reuse, kill, comparison, contamination."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.answer_cache import AnswerCache
from bloomery.core.budget import BudgetConfig, BudgetError
from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.core.workspace import Workspace
from bloomery.corpus import read_documents
from bloomery.evaluate import EvaluateConfig, evaluate, read_evaluation, read_records

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


def numbered(folder: Path, count: int) -> Path:
    path = folder / "numbers.jsonl"
    path.write_text("".join(json.dumps({"input": f"{n}", "target": f"{n}"}) + "\n" for n in range(count)))
    return path


def gone(text: str) -> RequestError:
    return RequestError(f"the server does not answer {text}", code="unavailable", status=503)


def published(workspace: Workspace) -> list[str]:
    return [path.name for path in workspace.artifacts.glob("evaluation-*")]


@pytest.mark.parametrize("count", [1, 9, 40])
def test_nothing_is_published_where_nothing_answers(says: Any, tmp_path: Path, count: int):
    workspace = Workspace(tmp_path / "home")
    with pytest.raises(RequestError, match="does not answer") as caught:
        evaluate(says(gone).opened(), [numbered(tmp_path, count)], workspace=workspace)
    assert published(workspace) == [] and caught.value.hint and "\n" not in caught.value.one_line()


def test_a_failure_is_counted_and_told_apart_from_a_wrong_answer(says: Any, tmp_path: Path):
    workspace = Workspace(tmp_path / "home")
    model = says(lambda text: gone(text) if text == "7" else "no" if text == "8" else text)
    found = evaluate(model.opened(), [numbered(tmp_path, 20)], workspace=workspace)
    (result,) = read_evaluation(found)["tasks"]
    assert (result["errors"], result["failed"]) == (1, 1) and "does not answer 7" in result["error"]
    assert result["metrics"]["exact_match"]["value"] == pytest.approx(18 / 20)
    assert result["answered_metrics"]["exact_match"]["value"] == pytest.approx(18 / 19)
    failed = [record for record in read_records(found, "numbers") if record.failed]
    assert [(record.id, record.error_code) for record in failed] == [("7", "unavailable")]


def test_too_many_failures_end_it_and_the_same_call_goes_on(says: Any, tmp_path: Path):
    workspace, task = Workspace(tmp_path / "home"), numbered(tmp_path, 20)
    with pytest.raises(RequestError, match=r"3 of \d+ questions failed") as caught:
        evaluate(says(lambda text: gone(text) if int(text) % 5 == 4 else text).opened(), [task], workspace=workspace)
    kept = int(re.findall(r"(\d+) of 20 answers are kept", caught.value.hint)[0])
    assert published(workspace) == [] and 10 <= kept <= 16
    healed = says(lambda text: text)
    found = evaluate(healed.opened(), [task], workspace=workspace)
    (result,) = read_evaluation(found)["tasks"]
    assert (result["failed"], result["cached"], len(healed.asked)) == (0, kept, 20 - kept)
    assert result["metrics"]["exact_match"]["value"] == 1.0
    lenient = EvaluateConfig(max_failed=0.5)
    model = says(lambda text: gone(text) if int(text) % 5 == 4 else text).opened()
    assert read_evaluation(evaluate(model, [task], config=lenient, workspace=workspace))["tasks"][0]["failed"] == 4


def test_what_is_too_long_is_the_questions_own_fault(says: Any, tmp_path: Path):
    workspace, task = Workspace(tmp_path / "home"), numbered(tmp_path, 4)
    long = RequestError("too long", code="context_length_exceeded")
    model = says(lambda text: text if text == "0" else long)
    (result,) = read_evaluation(evaluate(model.opened(), [task], workspace=workspace))["tasks"]
    assert (result["errors"], result["failed"]) == (3, 0) and result["metrics"]["exact_match"]["value"] == 0.25
    with pytest.raises(RequestError, match="none of its 4 questions"):
        evaluate(says(lambda text: long).opened(), [task], workspace=workspace)


def test_a_budget_ends_it_before_it_is_overspent_and_a_larger_one_goes_on(says: Any, tmp_path: Path):
    """A question of one or two letters takes as many tokens, and its answer: 8 tokens at most are asked for."""
    workspace = Workspace(tmp_path / "home")
    numbered(tmp_path, 20)
    (tmp_path / "own.toml").write_text('file = "numbers.jsonl"\nmax_new_tokens = 8\n')
    model = says(lambda text: text)
    how: dict[str, Any] = {"workspace": workspace, "config": EvaluateConfig(limit=20)}
    with pytest.raises(BudgetError, match="tokens") as caught:
        evaluate(model.opened(), [tmp_path / "own.toml"], budget=BudgetConfig(tokens=40), **how)
    asked = len(model.asked)
    assert published(workspace) == [] and 0 < asked < 20
    assert sum(2 * len(text) for text in model.asked) <= 40
    assert f"{asked} of 20 answers are kept" in caught.value.hint and "larger budget" in caught.value.hint
    found = evaluate(model.opened(), [tmp_path / "own.toml"], budget=BudgetConfig(tokens=400), **how)
    document = read_evaluation(found)
    assert len(model.asked) == 20 and document["tasks"][0]["cached"] == asked
    assert document["budget"]["spent"]["tokens"] == sum(2 * len(text) for text in model.asked[asked:])


def test_a_budget_counts_scored_texts_too(made: Any, data: Path, tmp_path: Path):
    how: dict[str, Any] = {"data": data, "workspace": tmp_path / "home"}
    with pytest.raises(BudgetError, match="requests"):
        evaluate(made.loaded, ["arc_easy"], budget=BudgetConfig(requests=10), **how)
    cache = AnswerCache(tmp_path / "home" / "answers.sqlite")
    assert 0 < cache.count() <= 10
    cache.close()
    found = evaluate(made.loaded, ["arc_easy"], budget=BudgetConfig(requests=36), **how)
    spent = read_evaluation(found)["budget"]["spent"]
    assert 26 <= spent["requests"] <= 35 and spent["tokens"] > 0
    plain = evaluate(made.loaded, ["arc_easy"], data=data, workspace=tmp_path / "other")
    nats = [[record.nats for record in read_records(one, "arc_easy")] for one in (found, plain)]
    assert nats[0] == nats[1]


JUDGED = """
file = "rows.jsonl"
[judge]
model = "{address}"
rubric = "Does it say what is smelted?"
labels = "labels.jsonl"
pairs = true
"""


@pytest.fixture
def judged_task(judge_server: Any, tmp_path: Path) -> Path:
    rows = [{"input": f"What is smelted in furnace {n}?"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = [{"id": n, "label": "right" if n % 3 else "wrong"} for n in range(6)]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    (tmp_path / "mine.toml").write_text(JUDGED.format(address=judge_server.address))
    return tmp_path / "mine.toml"


def test_a_judge_with_its_kappa_and_the_constant_judge(says: Any, judge_server: Any, judged_task: Path, tmp_path: Path):
    """It says "right" where two of three answers are; people say the same of the first six, so kappa is 1 (Cohen), and
    who always says "right" agrees on four of them."""
    from sklearn.metrics import cohen_kappa_score

    answers = says(lambda text: "iron" if int(re.findall(r"\d+", text)[0]) % 3 else "nothing")
    found = evaluate(answers.opened(), [judged_task], workspace=tmp_path / "home")
    (result,) = read_evaluation(found)["tasks"]
    judge = result["judge"]
    assert result["metrics"]["judge"]["value"] == judge["judged"]["value"] == pytest.approx(8 / 12)
    labels = ["right" if n % 3 else "wrong" for n in range(6)]
    said = [record.details["judge"]["answer"] for record in read_records(found, "mine")[:6]]
    assert judge["calibration"]["kappa"]["value"] == pytest.approx(cohen_kappa_score(labels, said))
    assert judge["calibration"]["constant"] == "right" and judge["calibration"]["constant_same"] == pytest.approx(4 / 6)
    assert judge["powered"] is not None and judge["cost"] == judge["cost"] | {"answers": 12, "tokens": 12 * 102}
    assert "kappa" in judge["sentence"] and judge_server.asked == 12


def test_a_judge_that_cannot_be_asked_is_no_wrong_answer(
    says: Any, judge_server: Any, judged_task: Path, tmp_path: Path
):
    judge_server.refuses = 422
    workspace = Workspace(tmp_path / "home")
    with pytest.raises(RequestError, match=r"the judge: .*not today"):
        evaluate(says(lambda text: "iron").opened(), [judged_task], workspace=workspace)
    assert published(workspace) == []
    judge_server.refuses = 0
    healed = says(lambda text: "iron")
    found = evaluate(healed.opened(), [judged_task], workspace=workspace)
    assert read_evaluation(found)["tasks"][0]["metrics"]["judge"]["value"] == 1.0
    assert len(healed.asked) < 12  # what was answered before the judge failed is kept


@pytest.mark.parametrize("fair", [True, False])
def test_two_evaluations_are_judged_side_by_side(
    says: Any, judge_server: Any, judged_task: Path, tmp_path: Path, fair: bool
):
    judge_server.fair = fair
    workspace = tmp_path / "home"
    before = evaluate(says(lambda text: "coal").opened(), [judged_task], workspace=workspace)
    found = evaluate(says(lambda text: "iron").opened(), [judged_task], against=before, workspace=workspace)
    preferred = read_evaluation(found)["against"]["preferences"]["mine"]
    wins = (preferred["wins_a"], preferred["wins_b"], preferred["ties"], preferred["flips"])
    assert wins == ((12, 0, 0, 0) if fair else (0, 0, 12, 12))
    assert preferred["first_place"]["value"] == (0.5 if fair else 1.0)


def test_bleu_of_all_samples_is_sacrebleus(says: Any, tmp_path: Path):
    import sacrebleu

    pairs = [("the iron is hot", "the iron is very hot"), ("strike the iron", "strike while it is hot")]
    rows = [{"input": f"{n}", "target": target} for n, (_, target) in enumerate(pairs)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.toml").write_text('file = "rows.jsonl"\nmetrics = ["bleu"]\n')
    model = says(lambda text: pairs[int(text)][0])
    found = evaluate(model.opened(), [tmp_path / "mine.toml"], workspace=tmp_path / "home")
    told = read_evaluation(found)["tasks"][0]["corpus"]["bleu"]
    theirs = sacrebleu.corpus_bleu([a for a, _ in pairs], [[b for _, b in pairs]])
    assert told["value"] == pytest.approx(theirs.score) and "tok:13a" in told["signature"]
