"""Whole tensors, parts, and the norm; that sharded ranks learn the same is in tests/integration/test_ranks.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn

from bloomery.training.parallel.matrices import full, is_sharded, sharded_like
from bloomery.training.parallel.sharded import Sharded
from bloomery.training.parallel.world import World


@pytest.fixture
def group() -> Iterator[None]:
    """This process is a group of its own."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_plain_tensor_is_whole():
    tensor = torch.arange(4.0)
    assert not is_sharded(tensor) and full(tensor) is tensor
    assert sharded_like(tensor, tensor) is tensor and sharded_like(tensor, None) is tensor


def test_gradients_are_clipped_as_pytorch_does(group):
    ranks = Sharded(World(dist.HashStore(), 0, 1), 0, torch.device("cpu"))
    models = [nn.Linear(5, 3), nn.Linear(5, 3)]
    for model in models:
        torch.manual_seed(0)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
    expected = torch.nn.utils.clip_grad_norm_(models[0].parameters(), 0.5)
    assert torch.allclose(ranks.clip(models[1].parameters(), 0.5), expected)
    for ours, theirs in zip(models[1].parameters(), models[0].parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad)
