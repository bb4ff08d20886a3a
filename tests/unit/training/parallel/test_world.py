"""Worlds that cannot be; `tests/integration/test_ranks.py` has those that can."""

from __future__ import annotations

from datetime import timedelta

import pytest
import torch

from bloomery.core.errors import ConfigError, TrainingError
from bloomery.training import ParallelConfig
from bloomery.training.parallel import launch
from bloomery.training.parallel import world as world_module
from bloomery.training.parallel.world import World, open_world


def test_one_rank_is_no_world():
    with open_world(ParallelConfig()) as world:
        assert world is None


def test_a_follower_begins_nothing(monkeypatch: pytest.MonkeyPatch):
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="rank 1 follows rank 0"), open_world(ParallelConfig()):
        pass
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="torchrun started 2 ranks, but 3"), open_world(ParallelConfig(ranks=3)):
        pass


def test_a_follower_that_cannot_begin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(launch, "FOLLOWER", "bloomery.no_such_module")
    config = ParallelConfig(ranks=2)
    with pytest.raises(TrainingError, match="rank 1 has ended: exit code 1"), open_world(config) as world:
        assert world is not None
        world.connect(torch.device("cpu"), config)
    with open_world(ParallelConfig()) as after:
        assert after is None


def test_a_follower_that_does_not_come(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(world_module, "_JOIN", timedelta(seconds=0.2))
    monkeypatch.setattr(launch, "FOLLOWER", "timeit")  # any module that takes a moment, and joins nothing
    config = ParallelConfig(ranks=2)
    with (
        pytest.raises(TrainingError, match="not all of 2 ranks have begun"),
        open_world(config) as world,
    ):
        assert world is not None
        world.connect(torch.device("cpu"), config)


def test_a_lost_connection_names_the_remedy_and_other_errors_pass():
    world = World(torch.distributed.HashStore(), 0, 2)
    with pytest.raises(TrainingError, match="another rank has ended") as caught, world.guarded():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    assert "run the same command again" in caught.value.hint
    with pytest.raises(RuntimeError, match="shapes"), world.guarded():
        raise RuntimeError("shapes do not match")
