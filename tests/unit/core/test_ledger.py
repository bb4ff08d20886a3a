"""The ledger under two writers, refused changes, migrations and damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.core import ledger as module
from bloomery.core.errors import ArtifactError
from bloomery.core.ledger import Ledger
from bloomery.core.migrations import MIGRATIONS
from bloomery.core.quantity import Quantity

WRITER = """
import sys
from pathlib import Path
from bloomery.core.ledger import Ledger
from bloomery.core.quantity import Quantity
ledger = Ledger(Path(sys.argv[1]))
for i in range(200):
    ledger.add_request(request=f"{sys.argv[2]}-{i}", route="/", model="m", status=200, prompt_tokens=1,
        completion_tokens=1, seconds=0.1, energy_joules=Quantity.unknown())
"""


def begin(ledger: Ledger, run: str = "r1") -> None:
    ledger.start_run(run, stage="s", key="k", config={}, parents=["p"], seed=0, versions={}, meters={})


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "ab"]
    assert [w.wait(timeout=60) for w in writers] == [0, 0]
    ledger = Ledger(path)
    assert len(ledger.requests(limit=1000)) == 400
    assert ledger.requests(limit=1)[0]["energy_joules"]["method"] == "unknown"
    ledger.close()


def test_append_only_and_one_end_a_run(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    begin(ledger)
    for state in ("failed", "finished"):
        ledger.end_run(
            "r1", state=state, seconds=1, energy_joules=Quantity.unknown(), phases=[("p", 1.0, Quantity.unknown())]
        )
    found = ledger.run("r")
    assert (found["state"], found["inputs"], len(found["phases"])) == ("failed", ["p"], 1)
    for statement in ("UPDATE runs SET seed = 1", "DELETE FROM run_ends"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            ledger._db.execute(statement)
    begin(ledger, "r2")
    for reference in ("r", "none"):
        with pytest.raises(ArtifactError):
            ledger.run(reference)
    ledger.close()


def test_versions(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    assert ledger._db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    ledger._db.execute("PRAGMA user_version = 99")
    ledger.close()
    with pytest.raises(ArtifactError, match="newer"):
        Ledger(tmp_path / "l.sqlite")


def test_unopenable(tmp_path: Path) -> None:
    (tmp_path / "folder.sqlite").mkdir()
    (tmp_path / "damaged.sqlite").write_bytes(b"not a database at all" * 100)
    for name in ("folder.sqlite", "damaged.sqlite"):
        with pytest.raises(ArtifactError) as caught:
            Ledger(tmp_path / name)
        assert caught.value.hint


def test_a_full_disk_says_so_though_sqlite_rolled_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    with pytest.raises(ArtifactError, match="full") as caught, ledger._writing() as db:
        db.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")
    assert "free some space" in caught.value.hint
    begin(ledger)  # the handle goes on working
    ledger.close()


def test_an_exact_id_wins_over_a_longer_one_and_underscores_are_letters(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    for run in ("a_b-10", "a_b-1", "axb-2"):
        begin(ledger, run)
    assert ledger.run("a_b-1")["id"] == "a_b-1" and ledger.run("ax")["id"] == "axb-2"
    with pytest.raises(ArtifactError, match="several"):
        ledger.run("a_b")
    ledger.close()


OPENER = """
import sys
from pathlib import Path
from bloomery.core.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
Ledger(Path(sys.argv[1])).close()
"""


def test_processes_that_open_a_new_ledger_at_once_all_get_it(tmp_path: Path) -> None:
    def start(path: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OPENER, str(path)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    for attempt in range(4):  # without waiting for each other, about half of such pairs failed
        openers = [start(tmp_path / f"{attempt}.sqlite") for _ in range(3)]
        for opener in openers:
            assert opener.stdout is not None and opener.stdout.readline() == "ready\n"
        for opener in openers:
            assert opener.stdin is not None
            opener.stdin.write("\n")
            opener.stdin.flush()
        for opener in openers:
            opener.communicate(timeout=60)
        assert [opener.returncode for opener in openers] == [0, 0, 0]


def test_a_ledger_of_an_older_version_is_brought_up_and_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path)
    begin(ledger)
    ledger.close()
    second = ("CREATE TABLE more (x TEXT)", "INSERT INTO more VALUES ('y')")
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, (*second, "not SQL")))
    with pytest.raises(ArtifactError, match="syntax"):
        Ledger(path)
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, second))
    ledger = Ledger(path)  # nothing of the migration that failed is left
    assert ledger._db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1
    assert ledger.run("r1")["state"] == "running" and ledger._rows("SELECT x FROM more") == [{"x": "y"}]
    ledger.close()
