"""Every table of the schema is append-only, and the schema is valid SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from bloomery.core.migrations import MIGRATIONS


def test_every_table_refuses_update_and_delete() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        for statements in MIGRATIONS:
            for statement in statements:
                db.execute(statement)
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        triggers = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    assert triggers == {f"{t}_no_{verb}" for t in tables for verb in ("update", "delete")}


def test_requests_of_before_there_were_names_belong_to_nobody() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in MIGRATIONS[0]:
            db.execute(statement)
        db.execute("INSERT INTO requests VALUES ('a', 0, '/', 'm', 200, 1, 1, 0.1, NULL, NULL, NULL, 'unknown')")
        for statements in MIGRATIONS[1:]:
            for statement in statements:
                db.execute(statement)
        assert db.execute("SELECT tenant FROM requests").fetchone() == ("",)
