"""What the watchdog says of ranks that do not go on; both of them run here, over a real store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
import torch.distributed as dist

from bloomery.training.parallel.watchdog import Watchdog


@pytest.fixture
def pair() -> Iterator[tuple[Watchdog, Watchdog]]:
    """Rank 0 and rank 1, which has begun its second step."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))
    dogs = [Watchdog(dist.TCPStore("127.0.0.1", server.port, is_master=False), rank, 2) for rank in range(2)]
    for dog in dogs:
        dog.begin(stall_seconds=1.5, stall_factor=2)
        dog.step(1)
        dog.computed()
        dog.rest()
        dog.step(2)
    yield dogs[0], dogs[1]
    for dog in reversed(dogs):
        dog.close()


def _verdict(dog: Watchdog, seconds: float) -> str:
    until = time.monotonic() + seconds
    while not dog.verdict and time.monotonic() < until:
        time.sleep(0.05)
    return dog.verdict


def test_a_rank_that_does_not_compute_its_part(pair: tuple[Watchdog, Watchdog]):
    leader, follower = pair
    leader.computed()
    assert _verdict(leader, 10).startswith("rank 1 has not computed step 2 for ")
    assert "its last step was 1" in leader.verdict and not follower.verdict


def test_a_rank_without_a_sign_of_life_even_between_steps(pair: tuple[Watchdog, Watchdog]):
    leader, follower = pair
    leader.rest()
    time.sleep(0.8)  # one sign of life at least
    follower.close()
    assert "rank 1 has shown no sign of life" in _verdict(leader, 10)


def test_whose_fault_it_is_when_all_have_computed(pair: tuple[Watchdog, Watchdog]):
    leader, follower = pair
    follower.computed()
    assert "rank 0 has not computed step 2" in leader.stalled(time.monotonic() + 2) or leader.verdict
    leader.rest()
    follower.rest()
    assert leader.stalled(time.monotonic()) == ""
