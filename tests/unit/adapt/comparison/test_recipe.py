"""The winner's recipe is a task file of its own."""

from __future__ import annotations

from dataclasses import replace

from bloomery.adapt.comparison.arms import arm_named
from bloomery.adapt.comparison.entries import Entry
from bloomery.adapt.comparison.recipe import settings_digest, winner_recipe
from bloomery.adapt.comparison.task import ModelConfig, read_task
from bloomery.adapt.comparison.testing import read_comparison
from bloomery.adapt.comparison.tuning import read_arm


def test_it_is_read_back_as_the_same_task_with_one_arm(made):
    winner = read_comparison(made.artifact)["recommended"]
    config = read_task(made.artifact.file("winner.toml")).config
    expected = made.task.config
    asked = expected.model if arm_named(winner).asks else ()
    assert replace(config, frozen="") == replace(expected, arms=(winner,), model=asked)
    assert len(config.frozen) == 64


def test_of_several_models_the_right_one_is_kept(made, tmp_path):
    frozen = read_arm(made.workspace.find(made.artifact.parents[3]))
    config = replace(made.task.config, model=(ModelConfig(name="a"), ModelConfig(name="x/b", label="c\nd")))
    entry = Entry(name="zero-shot (c\nd)", arm=arm_named("zero-shot"), model="c\nd")
    path = tmp_path / "winner.toml"
    path.write_text(winner_recipe(config, entry, frozen), encoding="utf-8")
    read = read_task(path).config
    assert [one.name for one in read.model] == ["x/b"] and read.frozen == settings_digest(frozen)
