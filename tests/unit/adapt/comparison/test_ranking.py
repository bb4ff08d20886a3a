"""Rankings: who is left, who is recommended, and what the sentence says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bloomery.adapt.comparison.ranking import detectable, ranked, spread_on_dev
from bloomery.core.errors import DataError


def scores(*rates: float, n: int = 200, seed: int = 0) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    hard = rng.random(n)
    return {f"arm{k}": (0.5 * hard + 0.5 * rng.random(n) < rate).astype(float).tolist() for k, rate in enumerate(rates)}


def test_a_clear_winner_is_better_than_every_other():
    found = ranked(scores(0.9, 0.4, 0.45), ["arm1", "arm2", "arm0"])
    assert found.undefeated == ("arm0",) and found.recommended == "arm0" and found.needed is None
    assert found.sentence.startswith("arm0 is better than every other arm") and "Holm over 3" in found.sentence
    assert list(found.quality) == sorted(found.quality, key=lambda name: -found.quality[name].value)


def test_of_those_not_distinguishable_the_cheapest_is_recommended():
    found = ranked(scores(0.9, 0.88, 0.3), ["arm1", "arm2", "arm0"])
    assert set(found.undefeated) == {"arm0", "arm1"} and found.recommended == "arm1"
    assert "not distinguishable at n = 200" in found.sentence and "arm1, the cheapest" in found.sentence
    assert found.needed is None or found.needed > 200
    again = ranked(scores(0.9, 0.88, 0.3), ["arm0", "arm1", "arm2"])
    assert again.recommended == "arm0"


def test_what_is_no_better_than_one_answer_to_everything_is_said():
    found = ranked(scores(0.9, 0.88, 0.3), ["arm1", "arm2", "arm0"], constant="arm1")
    said = found.sentence
    assert said.startswith("No arm was shown to be better than arm1, which always gives the most common answer: arm0 ")
    assert "not distinguishable at n = 200" in said and "recommended" not in said and said.count(".") == 1
    assert found.recommended == "arm1"
    for constant in ("arm2", "arm0"):  # beaten; or left, and not the cheapest
        assert (
            "arm1, the cheapest of them"
            in ranked(scores(0.9, 0.88, 0.3), ["arm1", "arm2", "arm0"], constant=constant).sentence
        )


def test_p_values_are_scipys_exact_binomial_with_holm():
    found = ranked(scores(0.7, 0.6, 0.5), ["arm0", "arm1", "arm2"])
    given = scores(0.7, 0.6, 0.5)
    raw = []
    for pair in found.pairs:
        a, b = np.array(given[pair.a]), np.array(given[pair.b])
        wins, losses = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
        raw.append(stats.binomtest(wins, wins + losses).pvalue)
    order = np.argsort(raw)
    adjusted, high = [0.0] * 3, 0.0
    for rank, place in enumerate(order):
        high = max(high, min(1.0, raw[place] * (3 - rank)))
        adjusted[place] = high
    assert [pair.p_value for pair in found.pairs] == pytest.approx(adjusted, rel=1e-9)


def test_one_arm_two_arms_and_the_same_answers():
    only = ranked({"a": [1.0, 0.0, 1.0]}, ["a"])
    assert only.recommended == "a" and only.sentence.startswith("Only a took part")
    same = ranked({"a": [1.0, 0.0] * 20, "b": [1.0, 0.0] * 20}, ["b", "a"])
    assert same.recommended == "b" and same.needed is None and "a and b were right equally often" in same.sentence
    two = ranked(scores(0.9, 0.3), ["arm0", "arm1"])
    assert two.sentence.startswith("arm0 is better than arm1")
    with pytest.raises(DataError):
        ranked({"a": [1.0, 0.0]}, ["b"])


def test_what_can_be_detected_is_stricter_for_more_arms():
    one, many = (detectable(200, pairs, alpha=0.05, binary=True).difference for pairs in (1, 28))
    assert one is not None and many is not None and many > one
    assert "n = 200" in detectable(200, 3, alpha=0.05, binary=False).text()


def test_what_dev_has_shown():
    scores = {"a": [1.0, 0.0, 1.0, 1.0], "b": [1.0, 1.0, 1.0, 1.0], "cut": [1.0]}
    assert spread_on_dev(scores, binary=True) == 0.25 and spread_on_dev({"a": [1.0]}, binary=True) is None
    assert spread_on_dev(scores, binary=False) == pytest.approx(np.std([0, -1, 0, 0], ddof=1))
