"""Database: migrations, transactions that are whole or not at all, quantities there and back, damage in one line."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from bloomery.core import database as database_module
from bloomery.core.database import JOULES, Database, quantity_columns, quantity_of, without_joules
from bloomery.core.errors import ArtifactError
from bloomery.core.quantity import Quantity

FIRST = (f"CREATE TABLE things (name TEXT PRIMARY KEY, {JOULES})",)


class Readable(Database):
    may_be_read_alone = True


def add(database: Database, name: str, joules: Quantity) -> None:
    with database._writing() as db:
        db.execute("INSERT INTO things VALUES (?,?,?,?,?)", (name, *quantity_columns(joules)))


def test_rows_quantities_and_a_later_migration(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "things.sqlite"
    first = Database(path, [FIRST], name="box")
    known = Quantity(low=1.0, central=2.0, high=4.0, method="estimated")
    add(first, "known", known)
    add(first, "unknown", Quantity.unknown())
    first.close()
    second = Database(path, [FIRST, ("ALTER TABLE things ADD COLUMN size INTEGER DEFAULT 3",)], name="box")
    rows = second._rows("SELECT * FROM things ORDER BY name")
    assert [quantity_of(row) for row in rows] == [known, Quantity.unknown()]
    assert without_joules(rows[0]) == {"name": "known", "size": 3}
    second.close()
    with pytest.raises(ArtifactError, match="newer"):
        Database(path, [FIRST], name="box")


def test_what_fails_leaves_nothing_and_says_which_file(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite", [FIRST], name="box")
    with pytest.raises(ArtifactError, match=r"box .*a\.sqlite"), database._writing() as db:
        db.execute("INSERT INTO things VALUES ('a', 1, 1, 1, 'user')")
        db.execute("INSERT INTO things VALUES ('a', 1, 1, 1, 'user')")
    assert database._rows("SELECT * FROM things") == []
    database.close()
    (tmp_path / "b.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 100)
    with pytest.raises(ArtifactError) as caught:
        Database(tmp_path / "b.sqlite", [FIRST], name="box")
    assert "damaged" in caught.value.hint


def test_where_other_machines_have_the_file_open_memory_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = Database(tmp_path / "local.sqlite", [FIRST], name="box")
    assert local._rows("PRAGMA journal_mode") == [{"journal_mode": "wal"}]
    monkeypatch.setattr(database_module, "on_network", lambda folder: folder == tmp_path)
    one, other = (Database(tmp_path / "shared.sqlite", [FIRST], name="box") for _ in range(2))
    for number, each in enumerate((one, other, one)):
        add(each, str(number), Quantity.unknown())
    assert len(other._rows("SELECT name FROM things")) == 3
    assert other._rows("PRAGMA journal_mode") == [{"journal_mode": "delete"}]
    assert not list(tmp_path.glob("shared.sqlite-*"))
    for each in (local, one, other):
        each.close()


def test_what_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sqlite"
    writer = Database(path, [FIRST], name="box")
    add(writer, "one", Quantity.unknown())
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    for closed in (False, True):  # beside its writer, and left alone
        if closed:
            writer.close()
        reader = Readable(path, [FIRST], name="box")
        assert reader.read_only and reader._rows("SELECT name FROM things") == [{"name": "one"}]
        with pytest.raises(ArtifactError, match="readonly") as caught:
            add(reader, "two", Quantity.unknown())
        assert "that you may write to" in caught.value.hint
        reader.close()
    with pytest.raises(ArtifactError, match="readonly"):
        Readable(path, [FIRST, ("ALTER TABLE things ADD COLUMN size INTEGER",)], name="box")
    with pytest.raises(ArtifactError, match="newer"):
        Readable(path, [], name="box")


def _without_room_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SQLite opens a file of which it cannot make the log's shared memory: on a medium that is read only."""
    real = database_module._connected

    class Refusing:
        def execute(self, statement: str) -> None:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error

        def close(self) -> None: ...

    def connected(database: str | Path, *, uri: bool = False) -> sqlite3.Connection | Refusing:
        return real(database, uri=uri) if "immutable" in str(database) or not uri else Refusing()

    monkeypatch.setattr(database_module, "_connected", connected)


def test_on_a_medium_that_is_read_only_it_is_read_as_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sqlite"
    writer = Database(path, [FIRST], name="box")
    add(writer, "one", Quantity.unknown())
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    _without_room_beside(monkeypatch)
    with pytest.raises(ArtifactError, match="unable to open"):  # the log is not in it yet: half would be seen
        Readable(path, [FIRST], name="box")
    writer.close()
    assert Readable(path, [FIRST], name="box")._rows("SELECT name FROM things") == [{"name": "one"}]
    (tmp_path / "a.sqlite-journal").write_bytes(b"of one who was killed while he wrote")
    with pytest.raises(ArtifactError):
        Readable(path, [FIRST], name="box")


def test_who_must_write_says_so_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(tmp_path / "a.sqlite", [FIRST], name="box").close()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert not Database(tmp_path / "a.sqlite", [FIRST], name="box").read_only
