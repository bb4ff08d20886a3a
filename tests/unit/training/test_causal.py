"""The causal loss against plain cross-entropy, and bits per byte by hand."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch

from bloomery.models import Decoder
from bloomery.training.causal import bits_per_byte, causal_loss


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
