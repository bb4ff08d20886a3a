"""Ways to ask that the model cannot read are left out beforehand, with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bloomery.adapt.comparison.arms.prompted import PromptedArm
from bloomery.adapt.comparison.arms.room import context_tokens, described, paid_questions, too_long
from bloomery.adapt.comparison.compare import opened_settings
from bloomery.adapt.comparison.entries import entries
from bloomery.adapt.comparison.spending import Spending
from bloomery.adapt.comparison.task import BudgetConfig
from bloomery.core.run import NoMeter


@pytest.fixture
def setting(made):
    with opened_settings(made.task.config, made.workspace) as (_, settings, _):
        yield settings[made.task.config.model[0].called]


def longer(setting, words: int):
    """With the same questions made longer, in train and in dev."""
    tail = " wet cold broken iron" * (words // 4)
    parts = {
        name: [replace(one, input=one.input + tail) for one in getattr(setting, name)[:20]] for name in ("train", "dev")
    }
    return replace(setting, **parts)


def test_counts_of_examples_that_do_not_fit_are_left_out(setting, tmp_path):
    arm, long = PromptedArm("few-shot"), longer(setting, 12)
    fitting, out = arm.fitting(long)
    assert {one["template"]["examples"]["count"] for one in fitting} == {4} and out
    assert all("longer than the 512 tokens" in why for why in out)
    assert sum(why.startswith("8 ") for why in out) == sum(
        one["template"]["examples"]["count"] == 8 for one in arm.candidates(long)
    )
    small = replace(long, dev=long.dev[:2])
    tuned = arm.tune(small, Spending(small.config.budget, NoMeter()), tmp_path)
    assert tuned.settings["template"]["examples"]["count"] == 4 and len(tuned.tried) == len(fitting)
    assert [note for note in tuned.notes if note.startswith("left out before: 8 ")]
    with arm.opened(small, tuned.settings, tmp_path) as answerer:
        assert not answerer.answer(small.dev[0]).error


def test_an_arm_none_of_whose_ways_fits_takes_no_part(setting):
    config = replace(setting.config, instruction="Say of what it is. " * 400, arms=("majority", "zero-shot"))
    long = replace(setting, config=config)
    found, out = entries(config, {"": replace(long, model=None), setting.model.config.called: long})
    assert [entry.name for entry in found] == ["majority"]
    assert "none of its ways to ask fits" in out["zero-shot"] and "20 of 20 questions of dev" in out["zero-shot"]


def test_a_few_long_questions_do_not_take_a_way(setting):
    asked = [{"role": "user", "content": "x " * 2000}]
    rare = iter([asked] + [[{"role": "user", "content": "x"}]] * 19)
    how = {"plain": True, "limit": 4, "held": True}
    assert len(setting.dev) == 20 and too_long(setting, lambda sample: next(rare), **how) == ""
    often = iter([asked] * 2 + [[{"role": "user", "content": "x"}]] * 18)
    assert too_long(setting, lambda sample: next(often), **how).startswith("2 of 20")


def test_an_endpoint_is_estimated(setting):
    model = replace(setting.model, loaded=None, config=replace(setting.model.config, context_tokens=100))
    elsewhere = replace(setting, model=model)
    assert context_tokens(elsewhere) == 100
    how = {"plain": False, "limit": 64, "held": False}
    for characters, fits in ((200, True), (600, False)):
        asked = [{"role": "user", "content": "x" * characters}]
        assert (too_long(elsewhere, lambda sample, asked=asked: asked, **how) == "") == fits


def test_in_words(setting):
    ways = PromptedArm("few-shot").candidates(setting)
    assert described(ways[0]) == "4 fixed examples, direct"
    assert described(PromptedArm("zero-shot").candidates(setting)[1]) == "no examples, by likelihood (none)"


def test_what_the_budget_pays_for(setting):
    def paid(**budget) -> int | None:
        config = replace(setting.config, budget=BudgetConfig(**budget))
        return paid_questions(replace(setting, config=config))

    once, twice = paid(processor_seconds=1.0), paid(processor_seconds=2.0)
    assert once and twice and abs(twice - 2 * once) <= 1
    read = sum(len(setting.model.loaded.tokenizer.encode(one.input)) for one in setting.dev) / len(setting.dev)
    assert paid(processor_seconds=None, tokens=1000) == int(1000 / (read + 4))
    assert paid(processor_seconds=None, joules=5.0) is None
