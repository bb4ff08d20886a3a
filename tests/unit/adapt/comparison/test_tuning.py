"""A tuned arm is an artifact that is taken as it is."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from functools import partial

from bloomery.adapt.comparison.arms import arm_named
from bloomery.adapt.comparison.compare import compare
from bloomery.adapt.comparison.split import split_task
from bloomery.adapt.comparison.testing import read_comparison
from bloomery.adapt.comparison.tuning import read_arm, tune_inputs
from bloomery.core.workspace import Workspace


def test_what_it_holds(made):
    arms = {one["name"]: one for one in read_comparison(made.artifact)["arms"]}
    frozen = read_arm(made.workspace.find(arms["rag"]["artifact"]))
    assert frozen.settings["passages"] in (1, 3, 5) and len(frozen.tried) == 6
    assert frozen.dev_score == max(one.score for one in frozen.tried)
    assert 0 < frozen.used < 1 and frozen.spent.prompt_tokens > 0 and frozen.folder.parent == frozen.artifact.path


def test_what_it_depends_on(made):
    split, config, arm = split_task(made.task.config, made.workspace), made.task.config, arm_named("rag")
    key = tune_inputs(arm, config, split, "m", "d").key
    assert key == tune_inputs(arm, replace(config, name="x", alpha=0.1, requests=3), split, "m", "d").key
    for other in (replace(config, seed=1), replace(config, instruction="x"), replace(config, metric="includes")):
        assert tune_inputs(arm, other, split, "m", "d").key != key
    assert tune_inputs(arm, config, split, "n", "d").key != key != tune_inputs(arm, config, split, "m", "e").key


def test_a_slower_clock_freezes_the_same(made, tmp_path, monkeypatch):
    """Every clock runs twice as fast as this machine's, and jitters, as on one that is busy: budgets that end amid a
    search end at the same question, and the verdict is the same."""
    budget = replace(made.task.config.budget, processor_seconds=0.1)
    arms = ("majority", "few-shot", "lora")
    config = replace(made.task.config, arms=arms, budget=budget)
    results = []
    for number, factor in enumerate((1.0, 2.0)):
        rng, clocks = random.Random(number), {name: getattr(time, name) for name in ("perf_counter", "process_time")}

        def clock(name: str, clocks=clocks, factor=factor, rng=rng) -> float:
            return clocks[name]() * factor + (rng.random() * 1e-3 if factor > 1 else 0.0)

        with monkeypatch.context() as patch:
            for name in clocks:
                patch.setattr(time, name, partial(clock, name))
            made_then = compare(replace(made.task, config=config), workspace=Workspace(tmp_path / str(number)))
        results.append(read_comparison(made_then))
    fast, slow = results
    assert fast["verdict"] == slow["verdict"] and fast["cheapest_first"] == slow["cheapest_first"]
    for one, other in zip(fast["arms"], slow["arms"], strict=True):
        assert one["name"] == other["name"] and one["settings"] == other["settings"]
        assert one["notes"] == other["notes"] and one["tried"] == other["tried"] and one["curve"] == other["curve"]
        assert one["budget_used"] == other["budget_used"]
        assert one["cost"]["training"]["operations"] == other["cost"]["training"]["operations"]
    cut = {one["name"]: one["notes"] for one in fast["arms"] if any("budget" in note for note in one["notes"])}
    assert {"few-shot", "lora"} <= set(cut)  # the budget did end something
    assert all(
        other["cost"]["training"]["seconds"] > one["cost"]["training"]["seconds"]
        for one, other in zip(fast["arms"][1:], slow["arms"][1:], strict=True)
    )  # and what was measured is told
