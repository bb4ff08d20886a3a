"""FineWeb: scores of texts small enough to count by hand, after C4's rules have taken lines."""

from __future__ import annotations

from bloomery.corpus.fineweb import RULES
from bloomery.corpus.judge import Judge
from bloomery.corpus.profiles import PROFILES

TEXT = "A line that ends well.\nshort\nshort\n\nA line of more than thirty characters that does not end"


def test_counted_by_hand():
    scores = Judge(RULES).judge(TEXT).scores
    assert scores["fineweb_punctuated_lines"] == 1 / 4
    assert scores["fineweb_short_lines"] == 3 / 4
    assert scores["fineweb_repeated_line_characters"] == 5 / (len(TEXT) - 4)
    assert scores["fineweb_line_ends"] == 4 / 19


def test_its_rules_see_what_c4_left():
    rules = [rule for rule in PROFILES["fineweb"] if rule.reads != "given"]
    verdict = Judge(rules).judge(f"{TEXT}\nPlease enable javascript in the browser you use.")
    assert verdict.taken["c4_javascript"][0] == 1 and verdict.taken["c4_line_words"][0] == 3
    assert verdict.scores["fineweb_punctuated_lines"] == 1 / 2
    assert verdict.text.count("\n") == 1


def test_a_text_of_blank_lines_is_dropped_as_without_marks():
    assert Judge(RULES).judge("\n \n").rule.name == "fineweb_punctuated_lines"  # type: ignore[union-attr]
