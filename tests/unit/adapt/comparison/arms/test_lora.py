"""The tuned arms: frozen, opened again, and ended by the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.adapt.comparison.arms.lora import EPOCHS, LoraArm, Plan, steps_that_fit
from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.comparison.task import BudgetConfig
from bloomery.adapt.comparison.testing import read_comparison
from bloomery.adapt.comparison.work import A_SECOND, Work, counted
from bloomery.core.errors import ConfigError
from bloomery.core.run import NoMeter


@pytest.fixture
def setting(made):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        yield settings[made.task.config.model[0].called]


def test_all_epochs_where_the_budget_is_large(made):
    arm = next(one for one in read_comparison(made.artifact)["arms"] if one["name"] == "lora")
    assert arm["settings"]["steps"] == EPOCHS * 4 and arm["notes"] == []  # 60 questions, 16 of a batch
    assert arm["cost"]["labels"] == 80 and 0 < arm["budget_used"] < 1
    assert [step["labels"] for step in arm["curve"]] == [30, 60] and arm["curve"][-1]["score"] == arm["dev_score"]
    assert arm["cost"]["training"]["tokens"] > EPOCHS * 60


def test_steps_follow_from_counts_alone():
    plan = Plan(train_tokens=10.0, dev_tokens=100, written_tokens=0, batch_rows=4)
    work = Work(read=A_SECOND / 1000, write=0.0)
    fixed, step = plan.fixed(work, 5)[0], plan.step(work)[0]
    assert step == pytest.approx(3 * 40 * work.read, rel=0.2) and fixed == pytest.approx(10 * 100 * work.read, rel=0.2)
    budget = BudgetConfig(processor_seconds=(fixed + 7.5 * step) / A_SECOND)
    assert steps_that_fit(plan, 100, 5, Spending(budget, NoMeter(), work=work)) == 7
    assert steps_that_fit(plan, 3, 5, Spending(budget, NoMeter(), work=work)) == 3
    tokens = BudgetConfig(processor_seconds=None, tokens=1000 + 2 * 40)  # training counts as reading
    assert steps_that_fit(plan, 100, 5, Spending(tokens, NoMeter(), work=work)) == 2


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
    over = Spending(small.config.budget, NoMeter(), before=counted(1e18))
    with pytest.raises(ConfigError, match="budget is over"):
        arm.tune(small, over, tmp_path)
