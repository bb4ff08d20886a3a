"""Turns: exclusive, and in the order of arrival."""

from __future__ import annotations

import threading
import time

import pytest

from bloomery.engine.turns import Turns


def test_waiters_are_served_in_order():
    turns, order = Turns(), []

    def work(number: int) -> None:
        with turns.take():
            order.append(number)

    with turns.take():
        threads = []
        for number in range(8):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            while turns.waiting <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(8))
    assert turns.waiting == 0


def test_one_at_a_time_and_nobody_starves():
    turns, inside, shares = Turns(), [], [0, 0, 0]
    end = time.monotonic() + 0.3

    def work(number: int) -> None:
        while time.monotonic() < end:
            with turns.take():
                inside.append(number)
                assert len(inside) == 1
                time.sleep(0.001)
                inside.pop()
                shares[number] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(shares) > max(shares) / 2  # a plain lock gives one of them nearly all


def test_an_error_inside_gives_the_turn_back():
    turns = Turns()
    with pytest.raises(ValueError), turns.take():
        raise ValueError
    with turns.take():
        pass
