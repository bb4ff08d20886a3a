"""How ranks may be divided."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.training import ParallelConfig


def test_what_can_be_divided():
    ParallelConfig(tensor_ranks=2).check(2)
    ParallelConfig(tensor_ranks=2, weights="sharded").check(4)
    with pytest.raises(ConfigError, match="cannot be divided"):
        ParallelConfig(tensor_ranks=2).check(3)
    with pytest.raises(ConfigError, match="sharded weights"):
        ParallelConfig(tensor_ranks=2).check(4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ranks": 0},
        {"tensor_ranks": 0},
        {"stall_seconds": 0.0},
        {"stall_factor": 0.5},
        {"restarts": 1},
        {"weights": "shard"},
        {"engine": "slurm"},
        {"restarts": -1, "engine": "ray"},
    ],
)
def test_values_that_make_no_sense(wrong):
    with pytest.raises(ConfigError):
        ParallelConfig(**wrong)
