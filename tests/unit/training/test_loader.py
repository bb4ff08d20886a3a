"""Orders that are drawn anew, taken up exactly, and bring examples of like length together."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.training.loader import ExampleLoader


def _loader(count: int = 23, **options) -> ExampleLoader[int]:
    return ExampleLoader(list(range(count)), [100, 101, 102], **{"rows": 4, "seed": 7, **options})


def test_every_example_comes_at_most_once_an_epoch_in_another_order_each_time():
    loader = _loader()
    first = [loader.next(4) for _ in range(5)]
    assert loader.epoch == 0 and len({i for batch in first for i in batch}) == 20
    second = [loader.next(4) for _ in range(5)]
    assert loader.epoch == 1 and first != second
    seen = {i for batch in first + second for i in batch}
    for _ in range(20):
        seen |= {i for _ in range(5) for i in loader.next(4)}
    assert seen == set(range(23))  # what an epoch leaves over comes in another one


def test_a_resumed_loader_goes_on_where_it_stood():
    straight, first = _loader(), _loader()
    expected = [straight.next(4) for _ in range(12)]
    for _ in range(7):
        first.next(4)
    second = _loader()
    second.load_state_dict(first.state_dict())
    assert [second.next(4) for _ in range(5)] == expected[7:]
    second.load_state_dict(_loader().state_dict())
    assert second.next(4) == expected[0]


def test_lengths_bring_like_together():
    lengths = [(i * 37) % 200 for i in range(400)]
    loader = ExampleLoader(list(range(400)), [], rows=8, seed=0, lengths=lengths)
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in (loader.next(8) for _ in range(50))]
    assert sum(spread) / len(spread) < 20
    assert not loader and list(loader.held_out()) == []


def test_held_out_in_order_and_small_sets():
    assert list(_loader().held_out()) == [[100, 101, 102]]
    small = _loader(3)
    assert sorted(small.next(4)) == [0, 1, 2]


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="no example"):
        _loader(0)
    with pytest.raises(ConfigError, match="rows"):
        _loader().next(5)
    with pytest.raises(ConfigError, match="other data"):
        _loader().load_state_dict(_loader(seed=8).state_dict())
    with pytest.raises(ConfigError, match="lengths"):
        _loader(lengths=[1])
