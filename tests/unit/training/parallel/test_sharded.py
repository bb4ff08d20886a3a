"""Whole tensors and parts of them; that sharded ranks learn the same is in tests/integration/test_ranks.py."""

from __future__ import annotations

import torch

from bloomery.training.parallel.matrices import full, is_sharded, sharded_like


def test_a_plain_tensor_is_whole():
    tensor = torch.arange(4.0)
    assert not is_sharded(tensor) and full(tensor) is tensor
    assert sharded_like(tensor, tensor) is tensor and sharded_like(tensor, None) is tensor
