"""Numeric: a number that is near enough."""

from __future__ import annotations

from bloomery.evaluate.sample import Answered, Sample
from bloomery.evaluate.scorers import Numeric


def test_tolerance():
    sample = Sample(id="s", input="?", targets=("3.14159",))
    assert Numeric().score(sample, Answered(sample_id="s", text="3.14")).value == 0
    assert Numeric(tolerance=0.001).score(sample, Answered(sample_id="s", text="3.14")).value == 1
    assert Numeric(tolerance=0.001).name == "numeric (within 0.001)"
