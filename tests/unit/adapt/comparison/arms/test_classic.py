"""Classic models are chosen on dev, within the budget, and drawn over fewer labels."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bloomery.adapt.comparison.answering import mean_of, scored
from bloomery.adapt.comparison.arms import classic
from bloomery.adapt.comparison.arms.classic import BOOSTED_LEAST, ClassicArm, kinds_for
from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.comparison.work import counted
from bloomery.core.errors import DataError
from bloomery.core.run import NoMeter
from bloomery.evaluate.sample import Sample


@pytest.fixture
def setting(made):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        yield settings[""]


def test_a_spent_budget_leaves_one_kind_and_says_so(setting, tmp_path):
    arm = ClassicArm()
    spending = Spending(setting.config.budget, NoMeter(), before=counted(1e18))
    tuned = arm.tune(setting, spending, tmp_path)
    assert len(tuned.tried) == 1 and "budget" in tuned.notes[-1] and tuned.curve == ()
    assert tuned.labels_used == len(setting.train) + len(setting.dev)
    with arm.opened(setting, tuned.settings, tmp_path) as answerer:
        right = [answerer.answer(one).text == one.targets[0] for one in setting.dev]
    assert sum(right) / len(right) == tuned.dev_score > 0.9


def test_kinds_and_a_curve_that_is_no_cost_of_making(setting, tmp_path):
    spending = Spending(setting.config.budget, NoMeter())
    tuned = ClassicArm().tune(setting, spending, tmp_path)
    assert [one.settings["kind"] for one in tuned.tried] == ["bayes", "logistic", "clusters"]
    assert [step.labels for step in tuned.curve] == [30, 60] and tuned.curve[-1].score == tuned.dev_score
    assert tuned.made is not None and 0 < tuned.made.operations < spending.spent.operations
    assert any(str(BOOSTED_LEAST) in note for note in tuned.notes)


def test_columns_of_numbers_are_read_by_trees_and_not_by_counting_words(setting, monkeypatch):
    rng = random.Random(0)

    def row(number: int) -> Sample:
        one, two = rng.random(), rng.random()
        label = "yes" if (one > 0.5) != (two > 0.5) else "no"  # no line parts them, a tree does
        return Sample(id=str(number), input="x", targets=(label,), metadata={"a": one, "b": two})

    config = replace(setting.config, columns=("a", "b"))
    rows = [row(number) for number in range(BOOSTED_LEAST + 60)]
    columns = replace(setting, config=config, train=rows[:BOOSTED_LEAST], dev=rows[BOOSTED_LEAST:])
    notes: list[str] = []
    assert kinds_for(columns, notes) == ["logistic", "clusters", "boosted"] and "Bayes" in notes[0]
    monkeypatch.setattr(classic, "_KINDS", dict.fromkeys(kinds_for(columns, []), 1))
    spending = Spending(config.budget, NoMeter())
    scores = {}
    for kind in ("logistic", "boosted"):
        fitted = classic.fitted_on(columns.train, kind, columns, spending)
        scores[kind] = mean_of(scored(columns.dev, [fitted.answer(one) for one in columns.dev], columns.scorer))
    assert scores["boosted"] > 0.85 > 0.75 > scores["logistic"] and spending.spent.operations > 0


def test_too_little_of_a_label(setting, tmp_path):
    bare = replace(setting, train=[one for one in setting.train if one.targets == ("yes",)])
    with pytest.raises(DataError, match="no classic model could be fitted"):
        ClassicArm().tune(bare, Spending(setting.config.budget, NoMeter()), tmp_path)
