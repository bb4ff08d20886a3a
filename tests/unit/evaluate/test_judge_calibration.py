"""Calibration: a useful judge, one that always says the same, one without labels, and means that people would give."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from bloomery.core.errors import DataError
from bloomery.evaluate.judge_calibration import calibrate, judged_score
from bloomery.evaluate.sample import Score

SCALE = ("wrong", "right")


def drawn(n: int, chance: float, seed: int = 0, rate: float = 0.7) -> tuple[list[str], list[str]]:
    """People's labels, and a judge that knows them with some chance and else says "right" three times of four."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < rate
    said = np.where(rng.random(n) < chance, truth, rng.random(n) < 0.75)
    return [SCALE[int(one)] for one in truth], [SCALE[int(one)] for one in said]


def scores(said: list[str], without_form: int = 0) -> list[Score]:
    made = []
    for n, word in enumerate(said):
        in_form = n >= len(said) - without_form
        details = {"in_form": not in_form, "asked": True}
        value, answer = (0.0, "") if in_form else (float(SCALE.index(word)), word)
        made.append(Score(sample_id=str(n), scorer="judge", value=value, answer=answer, details=details))
    return made


def test_a_useful_judge():
    labels, said = drawn(200, 0.8)
    found = calibrate(said, labels, SCALE)
    assert found.kappa is not None and found.kappa.value == pytest.approx(cohen_kappa_score(said, labels))
    assert found.calibrated and found.word == "calibrated" and found.constant == "right"
    assert found.constant_same == labels.count("right") / 200 and "always 'right'" in found.text()
    assert not calibrate(said[:6], labels[:6], SCALE).calibrated  # too few to know


def test_a_judge_that_always_says_the_same():
    labels, _ = drawn(200, 0)
    found = calibrate(["right"] * 200, labels, SCALE)
    assert found.kappa is not None and found.kappa.value == 0 and found.word == "uncalibrated"
    assert found.same is not None and found.same.value == found.constant_same


def test_without_labels():
    found = calibrate([], [], SCALE)
    assert found.word == "uncalibrated" and "nobody" in found.text() and json.dumps(found.to_dict())
    with pytest.raises(DataError):
        calibrate(["right"], ["fine"], SCALE)
    with pytest.raises(DataError):
        calibrate(["right"], [], SCALE)


def test_a_scale_weighs_by_distance():
    scale = ("1", "2", "3", "4", "5")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 100)
    said = np.clip(labels + rng.integers(-1, 2, 100), 0, 4)
    found = calibrate([scale[one] for one in said], [scale[one] for one in labels], scale)
    wanted = cohen_kappa_score(said, labels, weights="quadratic")
    assert found.kappa is not None and found.kappa.value == pytest.approx(wanted)


def test_the_mean_that_people_would_give():
    """A judge that is too kind: its own mean is off by .1, the prediction-powered one holds the truth."""
    labels, said = drawn(3000, 0.4, seed=1, rate=0.5)
    known = {str(n): labels[n] for n in range(150)}
    found = judged_score(scores(said), known, SCALE)
    truth = labels.count("right") / 3000
    assert found.powered is not None and found.value == found.powered.estimate
    assert found.value.low <= truth <= found.value.high
    assert found.judged.low > truth + 0.05 and found.powered.judge_only == pytest.approx(found.judged.value)
    assert "uncalibrated" in found.text() and json.dumps(found.to_dict())


def test_what_has_no_form_widens_what_is_possible():
    _, said = drawn(100, 0.8)
    found = judged_score(scores(said, without_form=10), {}, SCALE)
    assert found.in_form.value == 0.9 and found.highest == pytest.approx(found.lowest + 0.1)
    assert found.lowest == found.judged.value and "10.0% of the judge's answers had no form" in found.text()
    assert found.powered is None and found.value == found.judged
    worse = judged_score(scores(said, without_form=10), dict.fromkeys(map(str, range(90, 100)), "right"), SCALE)
    assert worse.calibration.same is not None and worse.calibration.same.value == 0


def test_clusters():
    _, said = drawn(100, 0.8)
    groups = {str(n): str(n // 10) for n in range(100)}
    assert judged_score(scores(said), {}, SCALE, clusters=groups).judged.clusters == 10
    with pytest.raises(DataError):
        judged_score([], {}, SCALE)
