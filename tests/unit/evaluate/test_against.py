"""Two evaluations beside each other: the paired tests are scipy's, adjusted over all metrics, on the same samples."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from scipy import stats

from bloomery.core.asking import TOO_LONG
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


def test_what_failed_on_the_way_is_said():
    one, other = records([True] * 10), records([True] * 10)
    other[3] = replace(other[3], answer="", scores={"accuracy": 0.0}, error="HTTP 503", error_code="http_503")
    other[4] = replace(other[4], answer="", scores={"accuracy": 0.0}, error="too long", error_code=TOO_LONG)
    (found,) = compare_records({"t": one}, {"t": other}, names=("A", "B"))
    assert found["failed"] == 1 and found["sentence"].endswith(
        " 1 failed on the way for one of the two, which counts as wrong."
    )
    (found,) = compare_records({"t": one}, {"t": one}, names=("A", "B"))
    assert not found["failed"] and "failed" not in found["sentence"]


def test_only_the_same_samples_are_compared():
    one = records([True, False, True])
    for other in (records([True, False]), [*one[:2], Record(id="9", input="another")]):
        with pytest.raises(ConfigError):
            compare_records({"t": one}, {"t": other}, names=("A", "B"))
    with pytest.raises(ConfigError, match="in common"):
        compare_records({"t": one}, {"u": one}, names=("A", "B"))
