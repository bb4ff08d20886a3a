"""Average precision of arms that tell how sure they are, as scikit-learn has it."""

from __future__ import annotations

import random

import pytest
from sklearn.metrics import average_precision_score

from bloomery.adapt.comparison.rare import rare_label
from bloomery.evaluate.sample import Answered, Sample

RNG = random.Random(0)
TEST = [
    Sample(id=str(n), input="?", targets=("fraud" if n % 8 == 0 else "fine",), cluster=f"card {n % 30}")
    for n in range(240)
]


def answers(skill: float, confidence: bool = True) -> list[Answered]:
    told = []
    for one in TEST:
        chance = min(1.0, max(0.0, RNG.random() * (1 - skill) + skill * (one.targets[0] == "fraud")))
        text, sure = ("fraud", chance) if chance > 0.5 else ("fine", 1 - chance)
        told.append(Answered(sample_id=one.id, text=text, confidence=sure if confidence else None))
    return told


def test_it_is_scikit_learns_figure_of_the_rarer_label():
    given = {"weak": answers(0.1), "good": answers(0.3), "silent": answers(0.9, confidence=False)}
    found = rare_label(given, TEST)
    assert found is not None and found["label"] == "fraud" and found["share"] == 1 / 8
    assert [one["name"] for one in found["arms"]] == ["good", "weak"]
    truth = [one.targets[0] == "fraud" for one in TEST]
    for one in found["arms"]:
        chances = [a.confidence if a.text == "fraud" else 1 - a.confidence for a in given[one["name"]]]
        assert one["value"] == pytest.approx(average_precision_score(truth, chances))
        assert one["low"] < one["value"] < one["high"]


def test_where_there_is_none():
    assert rare_label({"silent": answers(0.5, confidence=False)}, TEST) is None
    one_failed = answers(0.5)
    one_failed[3] = Answered(sample_id="3", text="", error="too long")
    assert rare_label({"a": one_failed}, TEST) is None
    three = [Sample(id=str(n), input="?", targets=(str(n % 3),)) for n in range(30)]
    assert rare_label({"a": answers(0.5)[:30]}, three) is None
    free = [Sample(id="1", input="?")]
    assert rare_label({"a": answers(0.5)[:1]}, free) is None
