"""Reports: what is in them comes from answers and scores, on the same samples, as plain data."""

from __future__ import annotations

import json

import pytest

from bloomery.core.errors import DataError
from bloomery.core.quantity import Quantity
from bloomery.evaluate.report import build_report, costs_of
from bloomery.evaluate.sample import Answered, Sample, Score

SAMPLES = [
    Sample(id=str(n), input=f"question {n}", targets=("yes",), choices=("yes", "no"), cluster=f"passage {n // 4}")
    for n in range(40)
]


def answers(wrong: int) -> list[Answered]:
    joules = Quantity.exact(2.0, "counter")
    return [
        Answered(
            sample_id=str(n),
            text="no" if n < wrong else "yes",
            prompt_tokens=10,
            completion_tokens=1,
            energy_joules=joules,
        )
        for n in range(40)
    ]


def scores(wrong: int) -> list[Score]:
    exact = [Score(sample_id=str(n), scorer="exact", value=float(n >= wrong), answer="x") for n in range(40)]
    return exact + [Score(sample_id=str(n), scorer="length", value=0.5, why="half") for n in range(3)]


def test_a_report():
    arms = {"base": answers(16), "tuned": answers(2)}
    found = build_report(
        {"name": "task"},
        list(SAMPLES),
        arms,
        {"base": scores(16), "tuned": scores(2)},
        contamination={"checked": "a corpus", "ids": ["3"]},
        made={"bloomery": "1"},
    )
    base, tuned = found.arms
    assert base.scores["exact"].value == 0.6 and base.scores["exact"].clusters == 10 and found.main == "exact"
    assert base.scores["length"].n == 3 and tuned.costs["joules per answer"]["central"] == 2
    assert len(found.verdicts) == 1 and found.verdicts[0].difference.difference.clusters == 10
    assert base.notes[0].startswith("without the 1 contaminated samples: 0.615 (")  # 24 of 39
    assert found.samples[3].contaminated and not found.samples[4].contaminated
    assert found.samples[0].answers["base"].why == {"exact": "took x", "length": "half"}
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["arms"][0]["scores"]["exact"]["value"] == 0.6 and len(plain["samples"]) == 40
    assert found.to_dict(samples=False)["samples"] == 40
    assert "n = 40" in found.detectable


def test_one_arm_needs_no_verdict_and_alone_no_interval():
    found = build_report({"name": "t"}, SAMPLES[:1], {"a": answers(0)[:1]}, {"a": scores(0)[:1]})
    assert found.verdicts == () and (found.arms[0].scores["exact"].low, found.arms[0].scores["exact"].high) == (0, 1)
    assert found.contamination is None


def test_one_cluster_is_no_comparison():
    samples = [Sample(id=str(n), input="?", cluster="the same") for n in range(40)]
    found = build_report(
        {"name": "t"}, samples, {"a": answers(3), "b": answers(9)}, {"a": scores(3), "b": scores(9)}, notes=["x"]
    )
    assert found.verdicts == () and found.notes == ("x", "one item or cluster alone: arms are not compared")


def test_arms_are_compared_on_the_same_samples_only():
    for given in (
        (SAMPLES, {"a": answers(0)[1:]}, {"a": scores(0)}),
        (SAMPLES, {"a": answers(0)}, {"a": scores(0)[1:]}),
        (SAMPLES, {"a": answers(0)}, {"b": scores(0)}),
        ([], {"a": []}, {"a": []}),
        (SAMPLES, {}, {}),
    ):
        with pytest.raises(DataError):
            build_report({"name": "t"}, *given)


def test_against_one():
    arms = {name: answers(n) for name, n in (("a", 5), ("b", 10), ("c", 20))}
    scored = {name: scores(n) for name, n in (("a", 5), ("b", 10), ("c", 20))}
    found = build_report({"name": "t"}, SAMPLES, arms, scored, against="c")
    assert [(one.a, one.b) for one in found.verdicts] == [("a", "c"), ("b", "c")]


def test_what_is_unknown_is_not_zero():
    known = Answered(sample_id="0", text="x", prompt_tokens=4, completion_tokens=2, seconds=1.0)
    found = costs_of([known, Answered(sample_id="1", text="x", prompt_tokens=4)])
    assert found == {
        "prompt tokens per answer": 4,
        "completion tokens per answer": None,
        "seconds per answer": 0.5,
        "joules per answer": None,
    }


def test_failures_are_told():
    gone = [Answered(sample_id=one.id, text="", error="no") for one in SAMPLES]
    found = build_report({"name": "t"}, SAMPLES, {"a": gone}, {"a": scores(40)})
    assert found.arms[0].notes == ("40 of 40 samples have no answer: they are worth 0",)
