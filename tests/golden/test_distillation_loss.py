"""Divergences against TRL's GKD trainer and PyTorch's kl_div: values and gradients, though logits are made in parts.

Tolerance 1e-5: divergences are of order one and float32 sums differ in their order.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bloomery.adapt.distillation.student import StudentObjective, Taught
from bloomery.adapt.divergence import candidates_of
from bloomery.adapt.preference.encoded import Completion, rows_of
from bloomery.models import Decoder, ModelConfig
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import to_device

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


def _decoder(seed: int, hidden: int, **more: Any) -> Decoder:
    torch.manual_seed(seed)
    made = Decoder(
        ModelConfig(
            model_type="qwen3",
            vocab_size=211,
            hidden_size=hidden,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=48,
            head_dim=16,
            max_position_embeddings=64,
            initializer_range=0.2,
            **more,
        )
    )
    return made


def _texts() -> list[Completion]:
    rng = np.random.default_rng(0)
    return [
        Completion(tuple(rng.integers(1, 211, 3).tolist()), tuple(rng.integers(1, 211, rng.integers(2, 9)).tolist()))
        for _ in range(5)
    ]


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("kept", [False, True])
def test_the_divergence_equals_trl(beta, temperature, kept):
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    student, teacher, texts = _decoder(0, 32), _decoder(1, 64, tie_word_embeddings=True), _texts()
    taught = [Taught(one) for one in texts]
    input_ids, labels = (torch.from_numpy(array) for array in rows_of(texts, 0))
    if kept:  # all candidates: the same as having the teacher there
        hidden = teacher.hidden_states(input_ids)[labels != IGNORED]
        ids, logprobs = (one.numpy() for one in candidates_of(teacher, hidden, 211, temperature=temperature))
        ends = np.cumsum([len(one.completion) for one in texts])[:-1]
        parts = zip(texts, np.split(ids, ends), np.split(logprobs, ends), strict=True)
        taught = [Taught(*part) for part in parts]
    objective = StudentObjective(
        student,
        ExampleLoader(taught, [], rows=5, seed=0),
        seed=0,
        teacher=None if kept else teacher,
        beta=beta,
        temperature=temperature,
    )
    batch = objective.collate(taught, np.random.default_rng(0), training=True)
    loss = objective.loss(to_device(batch.arrays, torch.device("cpu"))) / batch.weight
    loss.backward()
    ours = {name: value.grad.clone() for name, value in student.named_parameters() if value.grad is not None}
    student.zero_grad()
    expected = temperature**2 * GKDTrainer.generalized_jsd_loss(
        student(input_ids), teacher(input_ids).detach(), labels=labels, beta=beta, temperature=temperature
    )
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, value in student.named_parameters():
        assert value.grad is not None
        assert torch.allclose(ours[name], value.grad, atol=1e-4 * float(value.grad.abs().max()) + 1e-7), name


def test_labels_and_the_teacher_are_weighed_as_hinton_has_it():
    student, teacher, texts = _decoder(0, 32), _decoder(1, 64), _texts()
    taught = [Taught(one) for one in texts]
    objective = StudentObjective(
        student,
        ExampleLoader(taught, [], rows=5, seed=0),
        seed=0,
        teacher=teacher,
        temperature=3.0,
        label_weight=0.25,
    )
    batch = objective.collate(taught, np.random.default_rng(0), training=True)
    with torch.no_grad():
        loss = float(objective.loss(to_device(batch.arrays, torch.device("cpu")))) / batch.weight
        input_ids, labels = (torch.from_numpy(array) for array in rows_of(texts, 0))
        mine, its, wanted = (t[labels != IGNORED] for t in (student(input_ids), teacher(input_ids), labels))
    soft = F.kl_div((mine / 3).log_softmax(-1), (its / 3).softmax(-1), reduction="batchmean")
    assert loss == pytest.approx(0.75 * 9 * float(soft) + 0.25 * float(F.cross_entropy(mine, wanted)), rel=1e-5)
