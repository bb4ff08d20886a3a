"""A batch's shares, and one process alone."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.training.objective import Batch
from bloomery.training.parallel.ranks import ALONE, share_of, step_seed


def _batch(rows: int) -> Batch:
    return Batch(arrays={"x": np.arange(rows * 2).reshape(rows, 2)}, weight=7.0, items=5)


def test_shares_are_the_batch_in_order():
    batch = _batch(6)
    shares = [share_of(batch, rank, 3) for rank in range(3)]
    assert np.array_equal(np.concatenate([share.arrays["x"] for share in shares]), batch.arrays["x"])
    assert {share.weight for share in shares} == {7.0}


def test_a_batch_that_cannot_be_shared_names_one_that_can():
    with pytest.raises(ConfigError, match="5 rows cannot be shared by 2 ranks") as caught:
        share_of(_batch(5), 0, 2)
    assert caught.value.hint == "batch_rows=4"
    with pytest.raises(ConfigError):
        share_of(_batch(1), 0, 2)


def test_seeds_differ_by_step_and_rank_and_come_again():
    seeds = {step_seed(0, step, rank) for step in range(20) for rank in range(4)}
    assert len(seeds) == 80 and step_seed(0, 3, 1) in seeds and step_seed(1, 3, 1) not in seeds
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_alone_agrees_with_itself():
    assert ALONE.agree(True, False) == (True, False) and ALONE.leads
    assert ALONE.told(lambda: 3) == 3
