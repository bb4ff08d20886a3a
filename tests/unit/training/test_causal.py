"""The causal loss against plain cross-entropy, and bits per byte by hand."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch

from bloomery.models import Decoder
from bloomery.tokenizer import PackedRows
from bloomery.training.causal import CausalObjective, bits_per_byte, causal_loss


class Table:
    """Hidden states are one-hot rows, so that logits are a row of the head for each token: losses by hand."""

    def __init__(self) -> None:
        self.output_softcap = None
        self.output_weight = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))

    def hidden_states(self, input_ids: torch.Tensor) -> torch.Tensor:
        return torch.eye(5)[input_ids]

    def log_probabilities(self) -> torch.Tensor:
        return self.output_weight.T.log_softmax(-1)


def test_ignored_labels_do_not_count():
    model = Table()
    ids, labels = torch.tensor([[0, 1, 2]]), torch.tensor([[3, -100, 6]])
    table = model.log_probabilities()
    expected = -(table[0, 3] + table[2, 6])
    got = causal_loss(model.hidden_states, model.output_weight, ids, labels)
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)


def test_validation_over_parts():
    model = Table()
    first = (np.array([[0, 1]]), np.array([[1, -100]]))
    second = (np.array([[2, 3]]), np.array([[4, 5]]))
    result = bits_per_byte(
        cast(Decoder, model),
        [first, second],
        text_bytes=30,
        total_tokens=12,
        device=torch.device("cpu"),
        precision="float32",
    )
    table = model.log_probabilities()
    nats = -(table[0, 1] + table[2, 4] + table[3, 5]).item()
    assert result.values["nats_per_token"] == pytest.approx(nats / 3, rel=1e-6)
    assert result.value == pytest.approx(nats / 3 * 12 / 30 / math.log(2), rel=1e-6)


class Rows:
    """Counts what was read of it."""

    context_length = 8

    def __init__(self) -> None:
        self.read = 0

    @property
    def stats(self) -> dict[str, int]:
        return {"rows": self.read}

    def next_batch(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        self.read += rows
        ids = np.arange(rows * 8).reshape(rows, 8) % 5
        return ids, ids


def test_the_first_rows_are_read_as_four_short_ones():
    seen: list[tuple[int, ...]] = []
    model = Table()

    def hidden_states(input_ids: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(input_ids.shape))
        return model.hidden_states(input_ids)

    objective = CausalObjective(
        cast(Decoder, model), cast(PackedRows, Rows()), None, hidden_states=hidden_states, short_rows=4
    )
    losses = []
    for _ in range(3):
        batch = objective.next_batch(2)
        losses.append(float(objective.loss({name: torch.from_numpy(array) for name, array in batch.arrays.items()})))
    assert seen == [(8, 2), (8, 2), (2, 8)]
    assert losses[0] == pytest.approx(losses[2])  # here a token knows itself alone: the same labels
