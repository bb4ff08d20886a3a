"""Filters: which documents match, and what is no filter."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from bloomery.core.errors import RequestError
from bloomery.retrieve.store.filters import allowed, checked, matching


@pytest.mark.parametrize("filters", [{"": 1}, {"x": []}, {"x": None}, {"x": object()}, {3: 1}])
def test_what_is_no_filter(filters):
    with pytest.raises(RequestError):
        checked(filters)


def test_values_as_they_are_kept():
    assert checked({"x": ["b", "a"], "y": 1}) == {"x": ['"a"', '"b"'], "y": ["1"]}
    assert checked(None) == {}


def test_dead_rows_stay_out():
    documents, live = np.array([1, 1, 2, 3]), np.array([True, False, True, True])
    assert allowed(documents, live, np.array([1, 3])).tolist() == [True, False, False, True]
    assert allowed(documents, live, None) is live


def test_a_field_that_no_document_has():
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE fields (name TEXT, value TEXT, document INTEGER)")
        assert matching(db, {"yaer": 1}).tolist() == []  # type: ignore[union-attr]
        db.execute("INSERT INTO fields VALUES ('year', '1', 0)")
        assert matching(db, {"year": 2}).tolist() == []  # type: ignore[union-attr]
        with pytest.raises(RequestError, match="yaer") as caught:
            matching(db, {"yaer": 1})
    assert caught.value.hint.startswith("kept: year;")
