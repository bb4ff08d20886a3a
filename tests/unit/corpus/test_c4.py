"""C4: lines and pages that its code drops."""

from __future__ import annotations

import re

import pytest

from bloomery.corpus.c4 import MC4, PAPER, TFDS
from bloomery.corpus.judge import Judge

GOOD = "This is the first good line. It goes on.\nAnd here is a second one."


def _judge(text: str, rules=TFDS, **given):
    return Judge(rules).judge(text, given={"language": 1.0}, **given)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("x" * 1001 + " and some more words.", "c4_longest_word"),
        ("This line has no end mark", "c4_terminal"),
        ("This line trails off, it does...", "c4_terminal"),
        ("Only four words here.", "c4_line_words"),
        ("Please enable JavaScript to see this.", "c4_javascript"),
        ("This site uses cookies, you know.", "c4_policy"),
    ],
)
def test_a_line_is_taken_by_its_rule(line: str, rule: str):
    verdict = _judge(f"{GOOD}\n{line}")
    assert verdict.rule is None and verdict.text == GOOD
    assert verdict.taken[rule] == (1, len(line)) and sum(lines for lines, _ in verdict.taken.values()) == 1


@pytest.mark.parametrize(
    ("line", "rule"),
    [("Here stands lorem ipsum dolor sit.", "c4_lorem_ipsum"), ("Here is a { brace in it.", "c4_braces")],
)
def test_a_page_goes_for_a_line_that_would_stay(line: str, rule: str):
    verdict = _judge(f"{GOOD}\n{line}")
    assert verdict.rule and verdict.rule.name == rule and verdict.score == 1
    assert _judge(f"{GOOD}\n{line[:-1]}").rule is None  # its line had no end mark: it was gone before


def test_sentences_are_counted_of_the_lines_left():
    assert _judge(GOOD).scores["c4_sentences"] == 3
    assert _judge(GOOD, PAPER).rule.name == "c4_sentences"  # type: ignore[union-attr]


def test_bad_words_need_a_list():
    bad = re.compile(r"(?<![^\W\d_])(?:drat)(?![^\W\d_])")
    assert _judge(GOOD).scores["c4_bad_words"] is None
    assert _judge(f"{GOOD}\nOh drat, said the man again.", bad_words=bad).rule.name == "c4_bad_words"  # type: ignore[union-attr]
    assert _judge(f"{GOOD}\nOh hydrated, said the man again.", bad_words=bad).rule is None


def test_language_and_length():
    assert Judge(TFDS).judge(GOOD, given={"language": 0.98}).rule.name == "c4_language"  # type: ignore[union-attr]
    assert Judge(TFDS).judge(f"{GOOD} " * 3000, given={"language": 1.0}).rule.name == "c4_characters"  # type: ignore[union-attr]


def test_mc4_wants_three_long_lines():
    long = "\n".join(["x" * 200] * 3)
    assert _judge(long, MC4).rule is None
    assert _judge(long[:-1], MC4).scores["mc4_third_longest_line"] == 199
    assert _judge("x" * 5000, MC4).score == 0
