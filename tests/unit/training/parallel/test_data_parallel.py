"""What ranks with whole models refuse and draw; that they learn the same is in tests/integration/test_ranks.py."""

from __future__ import annotations

import torch

from bloomery.core.errors import ConfigError
from bloomery.training.contrastive import ContrastiveObjective
from bloomery.training.parallel.data_parallel import Several
from bloomery.training.parallel.world import World


def test_a_loss_of_a_whole_batch_is_refused():
    ranks = Several(World(torch.distributed.HashStore(), 0, 2), 0)
    objective = ContrastiveObjective.__new__(ContrastiveObjective)
    try:
        ranks.attach(objective)
    except ConfigError as error:
        assert "whole batch" in error.message and error.hint == "--ranks 1"
    else:
        raise AssertionError("it was accepted")


def test_a_step_reseeds_by_rank():
    draws = []
    for rank in range(2):
        ranks = Several(World(torch.distributed.HashStore(), rank, 2), seed=3)
        ranks.begin(5)
        first = torch.rand(4)
        ranks.begin(5)
        assert torch.equal(torch.rand(4), first)
        draws.append(first)
    assert not torch.equal(*draws)
