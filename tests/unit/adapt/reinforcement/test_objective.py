"""The objective of rewards: batches in parts, cut answers, state. Losses are compared with TRL's in tests/golden."""

from __future__ import annotations

import json

import pytest
import torch

from bloomery.adapt.reinforcement.config import ReinforceConfig, ReinforceFitConfig
from bloomery.adapt.reinforcement.objective import PolicyObjective, Question
from bloomery.adapt.reinforcement.rewards import Weighted
from bloomery.adapt.reinforcement.rollouts import Drawer
from bloomery.adapt.starting import Start
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import accumulate

VOWELS = Weighted("vowels", 2.0, lambda answer, row: sum(one in "aeiou" for one in answer) / 8)


def _objective(make_model, **options) -> PolicyObjective:
    start = Start.of(make_model())
    questions = [Question((5, 6, number), {"prompt": number}) for number in range(10, 22)]
    config = ReinforceConfig(group=4, max_new_tokens=8, fit=ReinforceFitConfig(batch_rows=8, device="cpu"), **options)
    drawer = Drawer(start.decoder, start.tokenizer, max_new_tokens=8, cache_tokens=1024)
    loader = ExampleLoader(questions, questions[:3], rows=2, seed=0)
    return PolicyObjective(start.decoder, loader, drawer, [VOWELS], config, reference=Start.of(make_model(1)).decoder)


@pytest.mark.parametrize("options", [{}, {"iterations": 2, "kl_weight": 0.2, "average": "tokens"}])
def test_a_batch_in_parts_has_the_same_loss(make_model, options):
    losses = []
    for micro in (8, 2):
        objective = _objective(make_model, **options)
        losses.append(accumulate(objective, objective.next_batch(8), micro, torch.device("cpu"), "float32").item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_answers_are_used_as_often_as_was_said_and_go_on_from_a_state(make_model):
    objective, other = _objective(make_model, iterations=2), _objective(make_model, iterations=2)
    first = objective.next_batch(8)
    state = json.loads(json.dumps(objective.state_dict()))
    second, third = objective.next_batch(8), objective.next_batch(8)
    assert (
        first.arrays["input_ids"].tolist() == second.arrays["input_ids"].tolist() != third.arrays["input_ids"].tolist()
    )
    other.load_state_dict(state)
    for expected in (second, third):
        found = other.next_batch(8)
        assert all((found.arrays[name] == array).all() for name, array in expected.arrays.items())
    assert objective.stats()["draws"] == 2 and objective.stats()["engine_gap_max_nats"] < 1e-4


def test_what_was_cut_is_not_learnt_from_where_that_is_asked(make_model):
    batch = _objective(make_model, learn_from_cut=False).next_batch(8)
    everything = _objective(make_model).next_batch(8)
    counted = (batch.arrays["labels"] != IGNORED).any(1)
    assert not counted.all() and (everything.arrays["labels"] != IGNORED).any(1).all()


def test_validation_is_of_greedy_answers_and_says_each_reward(make_model):
    objective = _objective(make_model)
    objective.rewards = [VOWELS, Weighted("none", 1.0, lambda answer, row: 0.0)]
    found = objective.validate(None, torch.device("cpu"), "float32")
    assert found == objective.validate(None, torch.device("cpu"), "float32") and found.headline == "reward"
    assert found.values["reward"] == pytest.approx(2 * found.values["reward_vowels"])
    assert objective.can_validate()
