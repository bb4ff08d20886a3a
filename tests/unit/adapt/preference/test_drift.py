"""Drift: the divergence from the model that there was, against PyTorch's kl_div over whole logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bloomery.adapt.preference.drift import FIGURE, Drift
from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.starting import Start
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import DataError
from bloomery.models import Decoder
from bloomery.training.objective import Validation


def _answers(count: int) -> list[Completion]:
    rng = np.random.default_rng(0)

    def ids(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.integers(5, 250, rng.integers(low, high)).tolist())

    return [Completion(ids(2, 6), ids(1, 9)) for _ in range(count)]


def _expected(model: Decoder, reference: Decoder, answers: list[Completion]) -> float:
    """KL(model || reference), token by token of each answer, from logits over the whole vocabulary."""
    total, tokens = 0.0, 0
    for one in answers:
        ids = torch.tensor([[*one.prompt, *one.completion]])
        with torch.no_grad():
            mine, its = (each(ids)[0, len(one.prompt) - 1 : -1].log_softmax(-1) for each in (model, reference))
        total += float(F.kl_div(its, mine, reduction="sum", log_target=True))
        tokens += len(one.completion)
    return total / tokens


def _disturb(model: Decoder) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)])
def test_it_is_the_divergence_over_the_whole_vocabulary(make_model, lora):
    """Of all weights, the output head's among them, and of adapters; the model that was is not kept."""
    torch.manual_seed(0)
    model = Start.of(make_model(), lora).decoder
    reference, answers = Start.of(make_model()).decoder, _answers(7)
    drift = Drift(model, answers)
    assert drift.measure(model) == pytest.approx(0.0, abs=1e-6)
    _disturb(model)
    model.train()
    assert drift.measure(model) == pytest.approx(_expected(model, reference, answers), rel=1e-4) and model.training
    assert drift.measure(model) > 1e-3


def test_only_so_many_tokens_are_kept(make_model):
    model, answers = Start.of(make_model()).decoder, _answers(9)
    drift = Drift(model, answers, tokens=12)
    lengths = np.cumsum([len(one.completion) for one in answers])
    assert drift.tokens == lengths[lengths <= 12][-1]
    assert len(Drift(model, answers, tokens=0).answers) == 1
    with pytest.raises(DataError, match="no answer"):
        Drift(model, [])


def test_a_validation_says_it_too(make_model):
    model = Start.of(make_model()).decoder
    found = Drift(model, _answers(3)).beside(Validation({"loss": 1.0}, "loss", "loss"), model)
    assert found.values == {"loss": 1.0, FIGURE: pytest.approx(0.0, abs=1e-6)}
    assert (found.headline, found.kept_by) == ("loss", "loss")
