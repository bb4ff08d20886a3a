"""The most frequent answer of train."""

from __future__ import annotations

from collections import Counter

from bloomery.adapt.comparison.arms.majority import MajorityArm
from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.spending import Spending
from bloomery.core.run import NoMeter


def test_it_is_what_train_says(made, tmp_path):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        setting, arm = settings[""], MajorityArm()
        tuned = arm.tune(setting, Spending(setting.config.budget, NoMeter()), tmp_path)
        most = Counter(one.targets[0] for one in setting.train).most_common(1)[0][0]
        share = sum(one.targets[0] == most for one in setting.dev) / len(setting.dev)
        assert tuned.settings == {"text": most} and tuned.dev_score == share
        with arm.opened(setting, tuned.settings, tmp_path) as answerer:
            assert answerer.answer(setting.dev[0]).text == most and most in answerer.name
