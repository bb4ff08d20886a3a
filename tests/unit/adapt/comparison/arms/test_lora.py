"""The tuned arms: frozen, opened again, and ended by the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.adapt.comparison.arms.lora import EPOCHS, LoraArm
from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.spending import Spending, Spent
from bloomery.adapt.comparison.testing import read_comparison
from bloomery.core.errors import ConfigError
from bloomery.core.run import NoMeter


@pytest.fixture
def setting(made):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        yield settings[made.task.config.model[0].called]


def test_all_epochs_where_the_budget_is_large(made):
    arm = next(one for one in read_comparison(made.artifact)["arms"] if one["name"] == "lora")
    assert arm["settings"]["steps"] == EPOCHS * 4 and arm["notes"] == []  # 60 questions, 16 of a batch
    assert arm["cost"]["labels"] == 80 and arm["budget_used"] < 1


def test_a_model_elsewhere_or_no_answers_to_learn(setting):
    assert "endpoint" in LoraArm("lora").unfit(replace(setting, model=None))
    bare = [replace(one, targets=()) for one in setting.train]
    assert "no answer" in LoraArm("lora").unfit(replace(setting, train=bare))
    assert "no documents" in LoraArm("rag-lora").unfit(replace(setting, config=replace(setting.config, documents="")))


def test_reading_and_learning_and_a_budget_that_is_over(setting, tmp_path):
    arm = LoraArm("rag-lora")
    small = replace(setting, train=setting.train[:16], dev=setting.dev[:4])
    tuned = arm.tune(small, Spending(small.config.budget, NoMeter()), tmp_path)
    with arm.opened(small, tuned.settings, tmp_path) as answerer:
        found = answerer.answer(small.dev[0])
    assert found.text in ("yes", "no") and found.details["passages"]
    over = Spending(small.config.budget, NoMeter(), before=Spent(processor_seconds=1e6))
    with pytest.raises(ConfigError, match="budget is over"):
        arm.tune(small, over, tmp_path)
