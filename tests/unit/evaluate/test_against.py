"""Two evaluations beside each other: the paired tests are scipy's, adjusted over all metrics, on the same samples."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from bloomery.core.errors import ConfigError
from bloomery.evaluate.against import compare_records
from bloomery.evaluate.tasks import Record


def records(right: list[bool]) -> list[Record]:
    return [
        Record(id=str(n), input=f"q{n}", answer="ab"[one], scores={"accuracy": float(one)})
        for n, one in enumerate(right)
    ]


def test_the_exact_test_of_paired_samples():
    rng = random.Random(3)
    one = [rng.random() < 0.8 for _ in range(300)]
    other = [a if rng.random() < 0.7 else rng.random() < 0.5 for a in one]
    (found,) = compare_records({"t": records(one)}, {"t": records(other)}, names=("A", "B"))
    wins, losses = (
        sum(a > b for a, b in zip(one, other, strict=True)),
        sum(a < b for a, b in zip(one, other, strict=True)),
    )
    assert found["p_value"] == pytest.approx(stats.binomtest(wins, wins + losses).pvalue)
    assert found["better"] == "A" and found["task"] == "t" and found["metric"] == "accuracy"
    assert found["same_answer"] == pytest.approx(1 - (wins + losses) / 300)


def test_several_are_adjusted():
    one, other = records([True] * 9 + [False]), records([False] * 9 + [True])
    alone = compare_records({"t": one}, {"t": other}, names=("A", "B"))[0]["p_value"]
    both = compare_records({"t": one, "u": one}, {"t": other, "u": other}, names=("A", "B"))
    assert [each["p_value"] for each in both] == pytest.approx([min(1.0, 2 * alone)] * 2)


def test_only_the_same_samples_are_compared():
    one = records([True, False, True])
    for other in (records([True, False]), [*one[:2], Record(id="9", input="another")]):
        with pytest.raises(ConfigError):
            compare_records({"t": one}, {"t": other}, names=("A", "B"))
    with pytest.raises(ConfigError, match="in common"):
        compare_records({"t": one}, {"u": one}, names=("A", "B"))
