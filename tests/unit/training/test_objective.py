"""What every objective shares: batches on a device, parts of them, precision, evaluation mode."""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch

from bloomery.training.objective import (
    Batch,
    Division,
    Validation,
    accumulate,
    divided,
    evaluating,
    own_batches,
    part_of,
    precision_context,
    take,
    to_device,
    totals,
)


def test_take():
    assert list(take(iter(range(5)), 3)) == [0, 1, 2]
    assert list(take(range(2), None)) == [0, 1]


def test_batches_go_to_a_device_in_parts():
    arrays = {"input_ids": np.arange(6).reshape(3, 2), "weights": np.ones(3, dtype=np.float32)}
    assert Batch(arrays=arrays, weight=3, items=6).rows == 3
    moved = to_device(part_of(arrays, slice(1, 3)), torch.device("cpu"))
    assert moved["input_ids"].tolist() == [[2, 3], [4, 5]] and moved["input_ids"].dtype == torch.int64
    assert moved["weights"].dtype == torch.float32 and len(moved["weights"]) == 2


def test_an_objective_may_place_its_batches_itself():
    class Placing:
        model = torch.nn.Linear(1, 1)

        def placed(self, arrays, device):
            return {name: torch.from_numpy(array) * 2 for name, array in arrays.items()}

        def loss(self, arrays):
            return (self.model.weight * arrays["x"]).sum()

    batch = Batch(arrays={"x": np.arange(4, dtype=np.float32)}, weight=2, items=4)
    placing = Placing()
    accumulate(placing, batch, 3, torch.device("cpu"), "float32")  # type: ignore[arg-type]
    assert float(placing.model.weight.grad) == 6.0  # type: ignore[arg-type]


def test_what_the_best_has_most_of():
    values = {"accuracy": 0.9, "macro_f1": 0.4, "nats": 2.0}
    assert Validation(values, "accuracy").worth == 0.9
    assert Validation(values, "nats").worth == -2.0
    assert Validation(values, "accuracy", "macro_f1").worth == 0.4
    assert Validation(values, "accuracy", "nats").worth == -2.0


def test_evaluating_gives_the_mode_back():
    model = torch.nn.Dropout(0.5)
    with evaluating(model):
        assert not model.training and not torch.is_grad_enabled()
    assert model.training and torch.is_grad_enabled()


def test_precision_context_autocasts():
    a = torch.ones(4, 4)
    with precision_context(torch.device("cpu"), "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16
    with precision_context(torch.device("cpu"), "float32"):
        assert (a @ a).dtype == torch.float32


def test_a_validation_can_be_divided_among_processes():
    class Second(Division):
        def own(self, items):
            return islice(items, 1, None, 2)

        def total(self, sums):
            return {name: 2 * value for name, value in sums.items()}

    assert list(own_batches(range(5))) == [0, 1, 2, 3, 4] and totals({"a": 1.5}) == {"a": 1.5}
    with divided(Second()):
        assert list(own_batches(range(5))) == [1, 3] and totals({"a": 1.5}) == {"a": 3.0}
    assert list(own_batches(range(2))) == [0, 1]
