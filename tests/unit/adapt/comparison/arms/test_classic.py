"""Classic models are chosen on dev, within the budget."""

from __future__ import annotations

from bloomery.adapt.comparison.arms.classic import ClassicArm
from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.spending import Spending, Spent
from bloomery.core.run import NoMeter


def test_a_spent_budget_leaves_one_kind_and_says_so(made, tmp_path):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        setting, arm = settings[""], ClassicArm()
        spending = Spending(setting.config.budget, NoMeter(), before=Spent(processor_seconds=1e6))
        tuned = arm.tune(setting, spending, tmp_path)
        assert len(tuned.tried) == 1 and "budget" in tuned.notes[0]
        assert tuned.labels_used == len(setting.train) + len(setting.dev)
        with arm.opened(setting, tuned.settings, tmp_path) as answerer:
            right = [answerer.answer(one).text == one.targets[0] for one in setting.dev]
        assert sum(right) / len(right) == tuned.dev_score > 0.9
