"""Pairs: parts of a batch give its loss, figures are sums, settings out of range are refused.

`tests/golden/test_preference_losses.py` compares losses, figures and gradients with TRL's.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.preference.pairs import Pair, PairObjective, completion_logprobs
from bloomery.adapt.starting import Start
from bloomery.core.errors import ConfigError
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import accumulate


def _pairs() -> list[Pair]:
    rng = np.random.default_rng(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(5, 250, rng.integers(low, high)).tolist())

    prompts = [ids(2, 6) for _ in range(4)]
    return [Pair(Completion(p, ids(1, 9)), Completion(p, ids(1, 9)), (-3.0, -4.0)) for p in prompts]


def _objective(make_model, **options) -> PairObjective:
    return PairObjective(
        Start.of(make_model()).decoder, ExampleLoader(_pairs(), _pairs(), rows=4, seed=0), seed=0, **options
    )


@pytest.mark.parametrize("options", [{}, {"loss": "ipo"}, {"loss": "orpo"}, {"loss": "orpo", "nll": "all"}])
def test_a_batch_in_parts_has_the_same_loss_and_gradients(make_model, options):
    found = []
    for micro in (4, 1):
        objective = _objective(make_model, **options)
        batch = objective.next_batch(4)
        loss = accumulate(objective, batch, micro, torch.device("cpu"), "float32")
        weight = objective.decoder.output_weight.grad
        assert weight is not None
        found.append((loss.item(), weight.clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5 * float(found[0][1].abs().max()))


def test_orpo_s_likelihood_is_the_mean_over_the_batch_s_chosen_tokens(make_model):
    objective = _objective(make_model, loss="orpo", beta=1e-9)
    batch = objective.next_batch(4)
    with torch.no_grad():
        loss = objective.loss({k: torch.from_numpy(v) for k, v in batch.arrays.items()}).item() / batch.weight
        chosen = [pair.chosen for pair in objective.loader.train]  # type: ignore[attr-defined]
        sums = completion_logprobs(objective.decoder, chosen)
    assert loss == pytest.approx(-sum(sums) / sum(len(one.completion) for one in chosen), rel=1e-4)


def test_validation_is_the_same_every_time_and_says_rewards(make_model):
    objective = _objective(make_model)
    first, second = (objective.validate(None, torch.device("cpu"), "float32") for _ in range(2))
    assert first == second and first.headline == "loss"
    values = first.values
    assert values["reward_margin"] == pytest.approx(values["chosen_reward"] - values["rejected_reward"], abs=1e-5)
    assert 0 <= values["reward_accuracy"] <= 1


@pytest.mark.parametrize("options", [{"beta": 0.0}, {"label_smoothing": 0.5}, {"loss": "ipo", "label_smoothing": 0.1}])
def test_out_of_range(make_model, options):
    with pytest.raises(ConfigError):
        _objective(make_model, **options)
