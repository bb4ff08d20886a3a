"""A comparison from end to end: split, arms, one look at the test, and the same verdict again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bloomery.adapt.comparison.compare import compare, opened_settings, what_it_can_show, what_it_depends_on
from bloomery.adapt.comparison.split import split_task
from bloomery.adapt.comparison.testing import read_comparison
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace


def test_every_arm_answers_the_same_test_and_has_its_cost(made):
    result = read_comparison(made.artifact)
    assert [one["name"] for one in result["arms"]] == ["majority", "classic", "zero-shot", "rag", "lora"]
    lines = made.artifact.file("answers/00-majority.jsonl").read_text("utf-8").splitlines()
    test = [json.loads(line)["id"] for line in lines]
    assert len(test) == result["items"]["test"] == 24 and len(set(test)) == 24
    for arm in result["arms"]:
        rows = [json.loads(line) for line in made.artifact.file(arm["answers"]).read_text("utf-8").splitlines()]
        assert [row["id"] for row in rows] == test
        assert sum(row["score"] for row in rows) / 24 == pytest.approx(arm["quality"]["value"])
        assert arm["cost"]["joules"]["central"] is not None and arm["cost"]["training"]["seconds"] > 0
    assert result["recommended"] in result["ranking"]["undefeated"] and result["recommended"] in result["verdict"]


def test_what_can_be_shown_is_said_before(made):
    assert any(line.startswith("before the run: with n = 24") for line in made.said)
    assert any("test sha256" in line for line in made.said)
    assert any(line.startswith("frozen: ") and "by what dev has shown" in line for line in made.said)
    split = split_task(made.task.config, made.workspace)
    assert what_it_can_show(made.task.config, split, 1)[-1].startswith("small:") or len(made.said) >= 2


def test_the_same_call_does_nothing_and_the_same_verdict_comes_again(made, tmp_path):
    runs = len(made.workspace.ledger.runs(limit=1000))
    again = compare(made.task, workspace=made.workspace)
    assert again.id == made.artifact.id and len(made.workspace.ledger.runs(limit=1000)) == runs
    elsewhere = compare(made.task, workspace=Workspace(tmp_path / "elsewhere"))
    one, two = read_comparison(made.artifact), read_comparison(elsewhere)
    assert one["verdict"] == two["verdict"] and one["recommended"] == two["recommended"]
    values = [[arm["quality"]["value"] for arm in result["arms"]] for result in (one, two)]
    assert values[0] == values[1]


def test_another_look_at_the_same_test_is_counted(made):
    said: list[str] = []
    task = replace(made.task, config=replace(made.task.config, arms=("majority", "classic")))
    result = read_comparison(compare(task, workspace=made.workspace, say=said.append))
    assert result["opened_before"] == 1 and any("opened 1 time before" in line for line in said)
    assert read_comparison(made.artifact)["opened_before"] == 0


def test_an_arm_that_cannot_be_tuned_is_left_out(made, tmp_path, monkeypatch):
    from bloomery.adapt.comparison.arms.classic import ClassicArm
    from bloomery.core.errors import MissingExtraError

    def missing(*_):
        raise MissingExtraError("scikit-learn", "adapt", "a classic model")

    monkeypatch.setattr(ClassicArm, "tune", missing)
    task = replace(made.task, config=replace(made.task.config, arms=("majority", "classic")))
    result = read_comparison(compare(task, workspace=Workspace(tmp_path / "home")))
    assert [one["name"] for one in result["arms"]] == ["majority"] and "pip install" in result["left_out"]["classic"]
    task = replace(made.task, config=replace(made.task.config, arms=("classic",)))
    with pytest.raises(ConfigError, match="no arm could be tuned"):
        compare(task, workspace=Workspace(tmp_path / "home"))


def test_no_arm_that_fits(made):
    config = replace(made.task.config, arms=("rag",), documents="")
    with pytest.raises(ConfigError, match="no arm fits"):
        compare(replace(made.task, config=config), workspace=made.workspace)


def test_answers_without_a_target_are_judged(make_model, workspace, tmp_path):
    rows = [{"ask": f"What is iron {n}?", "good": "It says metal."} for n in range(120)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = json.dumps(str(make_model(context=512).path))
    told = 'samples = "rows.jsonl"\ninput = "ask"\nrubric = "good"\nmetric = "judge"\nmax_new_tokens = 3\n'
    path = tmp_path / "task.toml"
    tables = f"[model]\nname = {model}\n[judge]\nname = {model}\n[split]\nmax_dev = 20\nmax_test = 20\n"
    path.write_text(f'{told}arms = ["majority", "classic", "zero-shot", "few-shot"]\n{tables}', encoding="utf-8")
    said: list[str] = []
    result = read_comparison(compare(path, workspace=workspace, say=said.append))
    assert [one["name"] for one in result["arms"]] == ["zero-shot"] and set(result["left_out"]) >= {"classic"}
    assert any("uncalibrated" in line for line in said) and 0 <= result["arms"][0]["quality"]["value"] <= 1
    with pytest.raises(ConfigError, match="go together"):
        replace(result_config(path), judge=None)


def result_config(path):
    from bloomery.adapt.comparison.task import read_task

    return read_task(path).config


def test_an_arm_that_fails_says_why_and_saves_nothing(made, tmp_path, monkeypatch):
    from bloomery.adapt.prompts.strategies import Thought
    from bloomery.adapt.prompts.tally import SampleError

    def fails(*_):
        raise SampleError("the prompt is longer than the context")

    monkeypatch.setattr(Thought, "_answered", fails)
    config = replace(made.task.config, arms=("majority", "chain-of-thought"))
    result = read_comparison(compare(replace(made.task, config=config), workspace=Workspace(tmp_path / "home")))
    arms = {one["name"]: one for one in result["arms"]}
    assert arms["chain-of-thought"]["failed"] == 24 and "context" in arms["chain-of-thought"]["failed_because"]
    assert arms["majority"]["failed"] == 0 and arms["majority"]["failed_because"] == ""
    assert "chain-of-thought" not in result["pareto"]
    assert all("chain-of-thought" not in (one["dear_to_make"], one["dear_to_ask"]) for one in result["break_evens"])


def test_what_another_day_could_change_is_said_before(made):
    config = made.task.config
    with opened_settings(config, made.workspace) as (_, settings, _):
        assert what_it_depends_on(config, settings) == []
        busy = replace(config, budget=replace(config.budget, joules=100.0))
        model = (
            settings["tiny"].model if "tiny" in settings else next(one.model for one in settings.values() if one.model)
        )
        many = replace(model, config=replace(model.config, concurrency=8), told="answers are kept")
        lines = what_it_depends_on(busy, {"m": replace(settings[""], model=many, told="marks are kept")})
        poor = replace(config, budget=replace(config.budget, processor_seconds=0.01))
        less = what_it_depends_on(poor, {"m": replace(settings[""], model=model, config=poor)})
    assert [line[:10] for line in lines] == [
        "the budget",
        "marks are ",
        "answers ar",
        f"{model.config.called} is asked"[:10],
    ]
    assert "model.concurrency=1" in lines[-1]
    assert "fewer than the 10" in less[0] and "of the 20 questions of dev" in less[0] and "[budget]" in less[0]
