"""Problems: all counted, some listed, the first fatal when strict."""

from __future__ import annotations

import pytest

from bloomery.core.errors import DataError
from bloomery.corpus.problems import LISTED, Problems


def test_all_are_counted_and_the_first_are_listed():
    problems = Problems()
    assert problems.first() == ""
    for n in range(LISTED + 50):
        problems.add("broken_json", f"a.jsonl, line {n + 1}", "x" * 1000)
    problems.add("truncated", "b.gz, line 3")
    assert problems.total == LISTED + 51
    assert problems.counts == {"broken_json": LISTED + 50, "truncated": 1}
    assert len(problems.listed) == LISTED
    assert len(problems.listed[0]["detail"]) == 300
    assert problems.first() == "a.jsonl, line 1: broken json (" + "x" * 300 + ")"


def test_what_is_said_is_one_line_that_can_be_written():
    problems = Problems()
    problems.add("damaged", "n\udcff.txt", "first\n  second\udc80")
    assert problems.first() == "n\ufffd.txt: damaged (first second\ufffd)"
    problems = Problems()
    problems.add("truncated", "a.gz")
    assert problems.first() == "a.gz: truncated"


def test_strict_stops_at_the_first_and_names_it():
    with pytest.raises(DataError, match=r"a\.jsonl, line 7: broken json \(no\)") as caught:
        Problems(strict=True).add("broken_json", "a.jsonl, line 7", "no")
    assert caught.value.hint
