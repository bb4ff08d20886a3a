"""Intervals: what is no row of numbers is refused, clusters are numbered."""

from __future__ import annotations

import pytest

from bloomery.core.errors import DataError
from bloomery.evaluate.statistics.interval import Interval, check_level, cluster_codes, numbers


def test_as_text_and_as_data():
    found = Interval(value=0.5, low=0.4, high=0.6, n=10, method="m")
    assert found.text() == "0.500 (0.400 to 0.600)"
    assert found.to_dict() == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10, "method": "m", "level": 0.95} | {
        "clusters": None,
        "standard_error": None,
        "caution": "",
    }


@pytest.mark.parametrize("bad", [[], [[1.0]], [float("nan")], [float("inf")], ["a"], 3.0])
def test_what_are_no_numbers(bad: object):
    with pytest.raises(DataError):
        numbers(bad)  # type: ignore[arg-type]


def test_clusters():
    codes = cluster_codes(["b", "a", "b"], 3)
    assert codes is not None and codes.tolist() == [0, 1, 0]
    assert cluster_codes(["a", "b"], 2) is None and cluster_codes(None, 2) is None and cluster_codes([], 2) is None
    with pytest.raises(DataError):
        cluster_codes(["a"], 2)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 95.0])
def test_levels(level: float):
    with pytest.raises(DataError):
        check_level(level)
