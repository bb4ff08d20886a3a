"""Judge: all scores of every document, the first rule that drops it, what lines measured."""

from __future__ import annotations

from bloomery.corpus.judge import Judge
from bloomery.corpus.profiles import PROFILES

RULES = [rule for rule in PROFILES["fineweb"] if rule.reads != "given"]


def test_every_rule_has_a_score_though_an_early_one_drops():
    verdict = Judge(RULES).judge("word " * 60)
    assert verdict.rule and verdict.rule.name.startswith("gopher_top")
    assert set(verdict.scores) == {rule.name for rule in RULES if rule.drops == "document"}
    assert set(verdict.taken) == {rule.name for rule in RULES if rule.drops == "line"}
    assert verdict.score == verdict.scores[verdict.rule.name]


def test_lines_are_measured_by_every_rule_that_looks_at_them():
    verdict = Judge(RULES).judge("One line here with words. And more.\nx")
    looks = {rule.name for rule in RULES if rule.drops == "line" or rule.reads == "lines"}
    assert set(verdict.lines) == looks | {"characters"}
    assert verdict.lines["characters"].tolist() == [35, 1]  # type: ignore[union-attr]
    assert verdict.lines["c4_sentences"].tolist() == [2, 1]  # type: ignore[union-attr]


def test_what_was_judged_before_does_not_matter():
    texts = ["A first text. It has words.", "Another; with #hash and...", "A first text. It has words."]
    one = Judge(RULES)
    together = [one.judge(text).scores for text in texts]
    assert together == [Judge(RULES).judge(text).scores for text in texts]


def test_no_rules_keep_everything():
    verdict = Judge(()).judge("any text")
    assert verdict.rule is None and verdict.text == "any text" and verdict.score is None
