"""Answers are read where they stand, and what names none, or several, is none."""

from __future__ import annotations

import pytest

from bloomery.adapt.prompts.answer_rule import AnswerRule, named_choice
from bloomery.core.errors import ConfigError

LETTERS = AnswerRule(take="choice", choices_as="letters")
FRUIT = ("apple", "pear", "a fig")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("B", "pear"),
        (" (B) because of its shape", "pear"),
        ("**C**", "a fig"),
        ("B. pear", "pear"),
        ("A pear is the answer", "apple"),  # a letter at the beginning is a letter: the rule asked for one
        ("It is the pear.", "pear"),
        ("D", None),
        ("an apple or a pear", None),
        ("Because", None),
        ('{"answer": "C"}', "a fig"),
        ("", None),
    ],
)
def test_letters(said: str, wanted: str | None):
    assert LETTERS.read(said, FRUIT) == wanted


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("spam", "spam"),
        ("This is not spam.", "not spam"),
        ("Spam!", "spam"),
        ("spammer", None),
        ("spam, not spam", None),
    ],
)
def test_a_choice_within_a_longer_one_is_not_named_by_it(said: str, wanted: str | None):
    assert named_choice(said, ("spam", "not spam")) == wanted


def test_the_last_marker_counts_and_a_missing_one_is_no_answer():
    rule = AnswerRule(take="choice", marker="Answer:")
    assert rule.read("Answer: perhaps no.\nOn second thoughts...\nanswer: yes", ("yes", "no")) == "yes"
    assert rule.read("It is yes", ("yes", "no")) is None
    assert AnswerRule(take="line", marker="A:").read("thinking A: Paris\nbecause") == "Paris"


def test_numbers():
    rule = AnswerRule(take="number")
    assert rule.read("3 apples and 4 pears make 1,234.50.") == "1234.5" and rule.read("none") is None
    assert AnswerRule(take="number", marker="Answer:").read("12. Answer: 007.0") == "7"


def test_json_in_a_fence_and_a_missing_key():
    rule = AnswerRule(take="json", key="label")
    assert rule.read('```json\n{"label": "spam", "why": "{x}"}\n```') == "spam"
    assert rule.read('{"label": 3}') == "3"
    assert rule.read('{"lable": "spam"}') is None and rule.read("[1]") is None
    assert AnswerRule(take="json").read('so: {"a": [1]}') == '{"a": [1]}'


def test_a_pattern_gives_its_last_match():
    assert AnswerRule(take="pattern", pattern=r"#### (\d+)").read("#### 3\n#### 42") == "42"
    assert AnswerRule(take="pattern", pattern=r"\d+").read("none") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"take": "pattern"},
        {"take": "pattern", "pattern": "("},
        {"take": "text", "key": "a"},
        {"take": "text", "constrained": True},
        {"take": "choice", "constrained": True, "marker": "A:"},
    ],
)
def test_rules_that_cannot_be_meant(wrong):
    with pytest.raises(ConfigError):
        AnswerRule(**wrong)
    with pytest.raises(ConfigError, match="letters"):
        LETTERS.names([str(n) for n in range(27)])
