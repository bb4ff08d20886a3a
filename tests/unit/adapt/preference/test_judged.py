"""Judged answers: who stands under whose prompt, figures of each kind. Losses are compared with TRL's in
tests/golden."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.preference.judged import JudgedAnswer, JudgedObjective, others
from bloomery.adapt.starting import Start
from bloomery.core.errors import ConfigError, DataError
from bloomery.training.loader import ExampleLoader


def _answers(count: int) -> list[Completion]:
    rng = np.random.default_rng(0)
    return [Completion((n + 5,), tuple(rng.integers(5, 250, 3).tolist())) for n in range(count)]


def test_every_completion_stands_once_under_somebody_else_s_prompt():
    answers = _answers(9)
    found = others(answers, seed=4)
    assert [one.prompt for one in found] == [one.prompt for one in answers]
    assert sorted(one.completion for one in found) == sorted(one.completion for one in answers)
    assert all(mine.completion != other.completion for mine, other in zip(answers, found, strict=True))
    assert found == others(answers, seed=4) != others(answers, seed=5)
    with pytest.raises(DataError):
        others(answers[:1], seed=0)


def test_figures_are_of_each_kind_and_a_kind_may_be_missing(make_model):
    answers = _answers(4)
    other = others(answers, seed=0)
    for labels in ([True, False, True, False], [True] * 4, [False] * 4):
        material = [JudgedAnswer(*one) for one in zip(answers, labels, other, [(-9.0, -9.0)] * 4, strict=True)]
        objective = JudgedObjective(
            Start.of(make_model()).decoder, ExampleLoader(material, material, rows=4, seed=0), seed=0, beta=0.5
        )
        values = objective.validate(None, torch.device("cpu"), "float32").values
        assert ("chosen_reward" in values, "rejected_reward" in values) == (True in labels, False in labels)
        assert ("reward_margin" in values) == (len(set(labels)) == 2)
        assert values["kl"] >= 0 and not objective.divisible


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"desirable_weight": -1.0}])
def test_out_of_range(make_model, options):
    with pytest.raises(ConfigError):
        JudgedObjective(Start.of(make_model()).decoder, ExampleLoader([1], [], rows=1, seed=0), seed=0, **options)  # type: ignore[arg-type, list-item]
