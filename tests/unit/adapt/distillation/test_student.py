"""Student: what a batch holds, parts of it, figures. Losses are compared with TRL's in tests/golden."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.adapt.distillation.student import StudentObjective, Taught
from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.preference.pairs import completion_logprobs
from bloomery.adapt.starting import Start
from bloomery.core.errors import ConfigError
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import accumulate


def _objective(make_model, **options) -> StudentObjective:
    rng = np.random.default_rng(0)
    texts = [Taught(Completion((7, 8), tuple(rng.integers(5, 250, rng.integers(1, 9)).tolist()))) for _ in range(4)]
    return StudentObjective(
        Start.of(make_model()).decoder, ExampleLoader(texts, texts, rows=4, seed=0), seed=0, **options
    )


def test_a_batch_in_parts_has_the_same_loss(make_model):
    losses = []
    for micro in (4, 1):
        objective = _objective(make_model, teacher=Start.of(make_model(1)).decoder, beta=0.5, label_weight=0.5)
        losses.append(accumulate(objective, objective.next_batch(4), micro, torch.device("cpu"), "float32").item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_without_a_teacher_texts_are_learnt(make_model):
    objective = _objective(make_model)
    values = objective.validate(None, torch.device("cpu"), "float32").values
    texts = [one.text for one in objective.loader.train]  # type: ignore[attr-defined]
    sums = completion_logprobs(objective.decoder, texts)
    assert values == {"nats_per_token": pytest.approx(-sum(sums) / sum(len(t.completion) for t in texts), rel=1e-4)}


def test_a_model_is_no_distance_from_itself(make_model):
    objective = _objective(make_model, teacher=Start.of(make_model()).decoder)
    values = objective.validate(None, torch.device("cpu"), "float32").values
    assert values["divergence"] == pytest.approx(0.0, abs=1e-5) and values["nats_per_token"] > 1


def test_candidates_lie_where_their_tokens_are(make_model):
    text = Completion((7, 8), (9, 10))
    taught = Taught(text, np.array([[1, 2], [3, 4]]), np.log(np.array([[0.5, 0.25], [0.75, 0.125]])))
    objective = _objective(make_model)
    batch = objective.collate([taught], np.random.default_rng(0), training=True)
    assert batch.arrays["ids"].tolist() == [[[0, 0], [1, 2], [3, 4]]] and batch.weight == 2


def test_out_of_range(make_model):
    with pytest.raises(ConfigError):
        _objective(make_model, beta=2.0)
