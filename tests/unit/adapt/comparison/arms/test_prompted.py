"""The prompted arms: their ways to ask, and what a budget does to the search."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.adapt.comparison.arms.prompted import (
    LEAST,
    Asked,
    PromptedArm,
    chosen_on_dev,
    opened_way,
    starting_template,
)
from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.comparison.work import counted
from bloomery.core.run import NoMeter
from bloomery.evaluate.sample import Answered


@pytest.fixture
def setting(made):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        yield settings[made.task.config.model[0].called]


def test_ways_to_ask(setting):
    ways = {name: PromptedArm(name).candidates(setting) for name in ("zero-shot", "few-shot", "self-consistency")}
    assert [one.get("likelihood") for one in ways["zero-shot"]] == [None, "none", "bytes", "prior"]
    assert [one["strategy"]["votes"] for one in ways["self-consistency"]] == [5, 5, 9]
    counts = [(one["template"]["examples"]["count"], one["template"]["examples"]["how"]) for one in ways["few-shot"]]
    assert len(set(counts)) == 4 and len(counts) == (5 if setting.model.plain else 8)
    assert all(one["strategy"]["plain"] == setting.model.plain for listed in ways.values() for one in listed)
    assert starting_template(setting).instruction == "Say yes or no."
    assert starting_template(setting, thinks=True).instruction.startswith("Say yes or no.\nThink")
    own = replace(setting, config=replace(setting.config, choices=(), choices_column="x"))
    assert starting_template(own).name == "question"


@pytest.mark.parametrize("name", ["few-shot", "chain-of-thought"])
def test_they_answer_what_was_asked(setting, name, tmp_path):
    arm = PromptedArm(name)
    setting = replace(setting, dev=setting.dev[:2])
    assert arm.unfit(setting) == ""
    tuned = arm.tune(setting, Spending(setting.config.budget, NoMeter()), tmp_path)
    with arm.opened(setting, tuned.settings, tmp_path) as answerer:
        found = answerer.answer(setting.dev[0])
    assert found.text in ("yes", "no", "") and found.calls and found.prompt_tokens
    assert opened_way(tuned.settings, Asked.of(setting.model), setting.train).name


class Fixed:
    def __init__(self, text: str) -> None:
        self.name = self.text = text

    def answer(self, sample):
        return Answered(sample_id=sample.id, text=self.text, prompt_tokens=1, completion_tokens=1)


def test_a_budget_that_ends_cuts_the_search_and_says_so(setting):
    ways = [{"text": "yes"}, {"text": "no"}]
    whole = chosen_on_dev(setting, ways, lambda one: Fixed(one["text"]), _spending(setting), labels_used=3)
    assert len(whole.tried) == 2 and whole.dev_score == max(one.score for one in whole.tried)
    assert whole.labels_used == 3 + len(setting.dev) and whole.notes == ()
    cut = chosen_on_dev(setting, ways, lambda one: Fixed(one["text"]), _spending(setting, 1e18), labels_used=0)
    assert len(cut.tried) == 1 and cut.tried[0].dev_tokens == 2 * LEAST and len(cut.notes) == 2


def _spending(setting, before: float = 0.0) -> Spending:
    return Spending(setting.config.budget, NoMeter(), before=counted(before))
