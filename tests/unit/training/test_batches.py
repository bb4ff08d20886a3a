"""What objectives share: labels that depend on the batch's number alone, validation that is the same every time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError
from bloomery.training.batches import BatchObjective, mask_of, padded
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Batch


class Noisy(BatchObjective[list[int]]):
    """Learns to say numbers; each is seen with noise that collate draws."""

    headline = "error"

    def collate(self, material: list[int], rng: np.random.Generator, *, training: bool) -> Batch:
        noise = rng.normal(size=len(material)) if training else np.zeros(len(material))
        arrays = {"x": np.array(material, dtype=np.float32) + noise.astype(np.float32), "draw": rng.random(1)}
        return Batch(arrays=arrays, weight=len(material), items=len(material))

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        return arrays["x"].sum()

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        return {"error": float(arrays["x"].sum()), "draw": float(arrays["draw"].sum())}


def _made() -> Noisy:
    loader = ExampleLoader(list(range(10)), [1, 2, 3, 4, 5], rows=2, seed=3)
    return Noisy(nn.Linear(1, 1), loader, seed=3)


def test_a_resumed_objective_makes_the_same_batches():
    straight, first = _made(), _made()
    expected = [straight.next_batch(2).arrays["x"] for _ in range(6)]
    for _ in range(4):
        first.next_batch(2)
    second = _made()
    second.load_state_dict(first.state_dict())
    assert all(np.array_equal(second.next_batch(2).arrays["x"], one) for one in expected[4:])


def test_validation_is_the_mean_over_examples_and_the_same_every_time():
    objective = _made()
    cpu = torch.device("cpu")
    before = objective.validate(None, cpu, "float32")
    assert before.value == pytest.approx(3) and before.headline == "error"
    objective.next_batch(2)
    assert objective.validate(None, cpu, "float32") == before
    assert objective.validate(1, cpu, "float32").value == pytest.approx(1.5)
    assert objective.model.training


def test_padded():
    assert padded([[1, 2, 3], [4]], 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert padded([[1]], 0, multiple=4).tolist() == [[1, 0, 0, 0]]
    assert mask_of([[1, 2, 3], [4]], 4).tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    with pytest.raises(ConfigError, match="no rows"):
        padded([], 0)
