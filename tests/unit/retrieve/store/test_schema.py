"""Tables: facts, commits and what filters compare."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ArtifactError
from bloomery.retrieve.store.schema import Counters, Tables, field_values, read_counters, read_fact, write_fact


def test_facts_and_counters(tmp_path):
    tables = Tables(tmp_path, create=True)
    with tables.writing() as db:
        write_fact(db, "counters", {"version": 3, "generation": 1, "rows": 7})
    with tables.reading() as db:
        assert read_counters(db) == Counters(version=3, generation=1, rows=7)
        assert read_fact(db, "absent") is None
    tables.vacuum()
    tables.close()


def test_a_reader_sees_one_commit(tmp_path):
    ours, theirs = Tables(tmp_path, create=True), Tables(tmp_path, create=False)
    with ours.writing() as db:
        write_fact(db, "n", 1)
    with theirs.reading() as db:
        assert read_fact(db, "n") == 1
        with ours.writing() as other:
            write_fact(other, "n", 2)
        assert read_fact(db, "n") == 1
    with theirs.reading() as db:
        assert read_fact(db, "n") == 2


def test_no_index(tmp_path):
    with pytest.raises(ArtifactError, match="no index"):
        Tables(tmp_path, create=False)


def test_lists_stand_for_their_members():
    assert field_values(["a", 1, "a", None]) == ['"a"', "1"]
    assert field_values("ä") == ['"ä"'] and field_values(True) == ["true"] and field_values(None) == []
