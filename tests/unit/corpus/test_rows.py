"""Rows: which field is the text, and what is kept beside it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.problems import Problems
from bloomery.corpus.rows import field_of, plain_value, row_document, tolerable


def _documents(row: dict[str, Any], **config: Any):
    problems = Problems()
    return list(row_document(row, {"row": 3}, "a", "a, row 3", CurateConfig(**config), problems)), problems


def test_dots_reach_into_rows_unless_a_field_is_called_so():
    row = {"page": {"body": "in"}, "a.b": "whole"}
    assert field_of(row, "page.body") == "in"
    assert field_of(row, "a.b") == "whole"
    assert field_of(row, "page.none.more") is None


def test_a_row_without_text_is_a_problem_that_names_its_fields():
    documents, problems = _documents({"body": "x", "n": 1})
    assert documents == []
    assert problems.listed[0] == {
        "reason": "missing_text",
        "where": "a, row 3",
        "detail": 'no string in "text"; there is: body, n',
    }


def test_fields_asked_for_are_plain_json():
    documents, _ = _documents({"text": "x", "when": datetime.date(2020, 1, 2)}, metadata_fields=("when", "none"))
    assert documents[0].metadata == {"row": 3, "when": "2020-01-02"}


@pytest.mark.parametrize(
    ("value", "plain"), [(b"\xff", "\ufffd"), (float("nan"), "nan"), ([1, {"a": 2}], [1, {"a": 2}]), (None, None)]
)
def test_values_become_json_data(value: Any, plain: Any):
    assert plain_value(value) == plain


def test_a_text_of_which_one_percent_is_invalid_is_in_another_encoding():
    problems = Problems()
    assert tolerable(1, "x" * 100, "a", problems)
    assert not tolerable(2, "x" * 100, "a", problems)
    assert problems.counts == {"invalid_bytes": 1, "other_encoding": 1}
