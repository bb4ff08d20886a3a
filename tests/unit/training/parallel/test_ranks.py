"""A batch's shares, and one process alone."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.training.objective import Batch
from bloomery.training.parallel.ranks import ALONE, parts_of, step_seed


def _batch(rows: int) -> Batch:
    return Batch(arrays={"x": np.arange(rows * 2).reshape(rows, 2)}, weight=7.0, items=5)


@pytest.mark.parametrize(("rows", "size", "micro"), [(6, 3, 6), (6, 3, 1), (7, 3, 2), (5, 2, 1), (8, 2, 3), (4, 4, 4)])
def test_shares_are_the_batch_in_order(rows, size, micro):
    batch = _batch(rows)
    shares = [parts_of(batch, rank, size, micro) for rank in range(size)]
    parts = [part["x"] for share in shares for part in share]
    assert np.array_equal(np.concatenate(parts), batch.arrays["x"]) and all(len(part) for part in parts)
    assert len({len(share) for share in shares}) == 1  # FSDP collects layers for each part on all ranks
    assert rows % size or max(len(part) for part in parts) <= micro


def test_a_batch_that_cannot_be_shared_names_one_that_can():
    with pytest.raises(ConfigError, match="3 rows cannot be shared by 4 ranks") as caught:
        parts_of(_batch(3), 0, 4, 1)
    assert caught.value.hint == "batch_rows=4"


def test_seeds_differ_by_step_and_rank_and_come_again():
    seeds = {step_seed(0, step, rank) for step in range(20) for rank in range(4)}
    assert len(seeds) == 80 and step_seed(0, 3, 1) in seeds and step_seed(1, 3, 1) not in seeds
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_alone_agrees_with_itself():
    assert ALONE.agree(True, False) == (True, False) and ALONE.leads
    assert ALONE.told(lambda: 3) == 3
