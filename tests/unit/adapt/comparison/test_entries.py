"""Who takes part, and why others do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.adapt.comparison.arm import Setting
from bloomery.adapt.comparison.arms.registry import arm_named
from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.entries import entries
from bloomery.adapt.comparison.task import ARMS, ModelConfig
from bloomery.core.errors import ConfigError


@pytest.fixture
def settings(made):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        yield settings


def test_all_that_fit(made, settings):
    config = replace(made.task.config, arms=())
    found, out = entries(config, settings)
    assert [one.name for one in found] == list(ARMS) and out == {}
    found, out = entries(replace(config, documents=""), {k: _without(v) for k, v in settings.items()})
    assert set(out) == {"rag", "long-context", "rag-lora"} and "no documents" in out["rag"]
    found, out = entries(replace(config, model=()), {"": settings[""]})
    assert [one.name for one in found] == ["majority", "classic"] and out["lora"] == "the task names no model"


def _without(setting: Setting) -> Setting:
    return replace(setting, config=replace(setting.config, documents=""))


def test_several_models_are_told_apart(made, settings):
    two = (ModelConfig(name="a"), ModelConfig(name="b"))
    model = settings[made.task.config.model[0].called]
    config = replace(made.task.config, arms=("classic", "zero-shot"), model=two)
    found, _ = entries(config, {"": settings[""], "a": model, "b": model})
    assert [one.name for one in found] == ["classic", "zero-shot (a)", "zero-shot (b)"]


def test_free_answers_have_no_classic_arm(made, settings):
    free = replace(settings[""], config=replace(made.task.config, choices=(), choices_column="x"))
    assert "free texts" in arm_named("classic").unfit(free) and arm_named("majority").unfit(free)
    with pytest.raises(ConfigError, match="unknown arm"):
        arm_named("zero")
