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
