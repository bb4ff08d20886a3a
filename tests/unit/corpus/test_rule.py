"""Rule: verdicts by comparison, thresholds moved and left out."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import ConfigError
from bloomery.corpus.gopher import QUALITY, word_count
from bloomery.corpus.rule import Rule, with_thresholds

LEAST = Rule(name="least", measure=word_count, keep=">=", threshold=2)
MOST = Rule(name="most", measure=word_count, keep="<=", threshold=2)


def test_the_threshold_itself_is_kept_and_no_score_is_too():
    assert [LEAST.keeps(score) for score in (1.9, 2.0, None, float("nan"))] == [False, True, True, True]
    assert MOST.keeps(np.array([2.0, 2.1, np.nan])).tolist() == [True, False, True]
    assert LEAST.keeps(np.array([1, 2])).tolist() == [False, True]


def test_thresholds_are_moved_and_rules_left_out():
    moved = with_thresholds((LEAST, MOST), {"least": 5, "most": "off"}, profile="p")
    assert [rule.says() for rule in moved] == ["least >= 5"]
    assert with_thresholds((LEAST,), {}, profile="p") == (LEAST,)


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match="no rule") as caught:
        with_thresholds(QUALITY, {"gopher_min_wrds": 3}, profile="gopher")
    assert "gopher_min_words" in caught.value.hint
    for value in ("many", True, float("nan")):
        with pytest.raises(ConfigError, match="should be a number"):
            with_thresholds((LEAST,), {"least": value}, profile="p")


def test_every_rule_says_where_it_is_from():
    assert all("Gopher" in rule.source for rule in QUALITY)
