"""A tuned arm is an artifact that is taken as it is."""

from __future__ import annotations

from dataclasses import replace

from bloomery.adapt.comparison.arms import arm_named
from bloomery.adapt.comparison.split import split_task
from bloomery.adapt.comparison.testing import read_comparison
from bloomery.adapt.comparison.tuning import read_arm, tune_inputs


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
