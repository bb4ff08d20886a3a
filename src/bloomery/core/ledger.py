"""Ledger: one SQLite file that answers "where did this model come from and what did it cost".

Runs, their ends, phases, metrics, artifacts, their parents, and served requests. Rows are only ever added:
triggers refuse UPDATE and DELETE. WAL and a busy timeout let several processes write at once.

This module does not know folders: whether an artifact is still on disk is the workspace's question.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ArtifactError
from bloomery.core.events import now
from bloomery.core.migrations import MIGRATIONS
from bloomery.core.quantity import Quantity

_BUSY_SECONDS = 30.0


class Ledger:
    """Thread-safe handle on one ledger file; opening creates or migrates it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._use_wal()
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._migrate()
        except OSError as error:
            from bloomery.core.artifact import as_artifact_error

            raise as_artifact_error(error, "cannot open the ledger") from error
        except sqlite3.Error as error:
            raise _ledger_error(error, path) from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _use_wal(self) -> None:
        """Wait for our turn ourselves: when two processes open a new file at once, SQLite skips its busy timeout."""
        limit = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > limit:
                    raise
                time.sleep(0.005)

    def _migrate(self) -> None:
        with self._writing() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise ArtifactError(f"{self.path} was written by a newer bloomery", hint="upgrade bloomery")
            for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
                for statement in statements:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:  # a full disk has made SQLite roll back by itself
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise _ledger_error(error, self.path) from error

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with self._lock:
            try:
                return [dict(row) for row in self._db.execute(query, parameters)]
            except sqlite3.Error as error:
                raise _ledger_error(error, self.path) from error

    # runs

    def start_run(
        self,
        run: str,
        *,
        stage: str,
        key: str,
        config: Mapping[str, Any],
        parents: Sequence[str],
        seed: int,
        versions: Mapping[str, Any],
        meters: Mapping[str, Any],
    ) -> None:
        with self._writing() as db:
            db.execute(
                "INSERT INTO runs (id, stage, key, config, seed, versions, meters, started) VALUES (?,?,?,?,?,?,?,?)",
                (run, stage, key, json.dumps(config), seed, json.dumps(versions), json.dumps(meters), now()),
            )
            db.executemany("INSERT INTO run_inputs (run, artifact) VALUES (?,?)", [(run, p) for p in parents])

    def end_run(
        self,
        run: str,
        *,
        state: str,
        seconds: float,
        energy_joules: Quantity,
        error: str = "",
        artifact: Artifact | None = None,
        phases: Sequence[tuple[str, float, Quantity]] = (),
    ) -> None:
        """Record how a run ended: state is "finished" or "failed". A second end of one run is ignored."""
        with self._writing() as db:
            if artifact is not None:
                self._add_artifact(db, artifact, run)
            ended = db.execute(
                "INSERT OR IGNORE INTO run_ends (run, state, ended, seconds, joules_low, joules, joules_high, method,"
                " error, artifact) VALUES (?,?,?,?,?,?,?,?,?,?)",
                (run, state, now(), seconds, *_columns(energy_joules), error, artifact.id if artifact else None),
            )
            if ended.rowcount == 0:
                return
            db.executemany(
                "INSERT INTO phases (run, name, seconds, joules_low, joules, joules_high, method)"
                " VALUES (?,?,?,?,?,?,?)",
                [(run, name, spent, *_columns(joules)) for name, spent, joules in phases],
            )

    def add_metrics(self, run: str, values: Mapping[str, float], *, step: int | None = None) -> None:
        with self._writing() as db:
            db.executemany(
                "INSERT INTO metrics (run, name, value, step) VALUES (?,?,?,?)",
                [(run, name, value, step) for name, value in values.items()],
            )

    def runs(self, *, stage: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first: id, stage, state, started, seconds, energy_joules, artifact, error, key, config."""
        where = "WHERE r.stage = ?" if stage else ""
        rows = self._rows(
            f"{_RUN_QUERY} {where} ORDER BY r.started DESC, r.rowid DESC LIMIT ?",
            (stage, limit) if stage else (limit,),
        )
        return [_run_row(row) for row in rows]

    def run(self, reference: str) -> dict[str, Any]:
        """One run by id or unique prefix, with its inputs, phases and metrics."""
        rows = self._rows(
            f"{_RUN_QUERY} WHERE substr(r.id, 1, ?) = ? ORDER BY length(r.id) LIMIT 2", (len(reference), reference)
        )
        if len(rows) != 1 and not (rows and rows[0]["id"] == reference):
            problem = "several runs begin with" if rows else "no run begins with"
            raise ArtifactError(f"{problem} {reference!r}", hint="bloomery runs lists them")
        run = _run_row(rows[0])
        run["inputs"] = [r["artifact"] for r in self._rows("SELECT artifact FROM run_inputs WHERE run=?", (run["id"],))]
        run["phases"] = [
            {"name": r["name"], "seconds": r["seconds"], "energy_joules": _quantity(r).to_dict()}
            for r in self._rows("SELECT * FROM phases WHERE run=? ORDER BY rowid", (run["id"],))
        ]
        run["metrics"] = self._rows("SELECT name, value, step FROM metrics WHERE run=? ORDER BY rowid", (run["id"],))
        return run

    def unfinished(self) -> list[dict[str, Any]]:
        """Runs that never said how they ended: still going on, or their process died."""
        rows = self._rows(f"{_RUN_QUERY} WHERE e.run IS NULL ORDER BY r.started")
        return [_run_row(row) for row in rows]

    def attempts(self, key: str) -> list[dict[str, Any]]:
        """Every run of one stage key, oldest first: what a result cost includes the failed ones."""
        return [_run_row(r) for r in self._rows(f"{_RUN_QUERY} WHERE r.key=? ORDER BY r.started, r.rowid", (key,))]

    # artifacts

    def _add_artifact(self, db: sqlite3.Connection, artifact: Artifact, run: str) -> None:
        size = sum(f["size"] for f in artifact.manifest["files"])
        db.execute(
            "INSERT OR IGNORE INTO artifacts (id, kind, size_bytes, created, run) VALUES (?,?,?,?,?)",
            (artifact.id, artifact.kind, size, now(), run),
        )
        db.executemany(
            "INSERT OR IGNORE INTO parents (artifact, parent) VALUES (?,?)",
            [(artifact.id, parent) for parent in artifact.parents],
        )

    def output(self, key: str) -> str | None:
        """The id of the artifact that the newest finished run of this stage key made."""
        rows = self._rows(
            "SELECT e.artifact FROM runs r JOIN run_ends e ON e.run = r.id WHERE r.key=? AND e.state='finished'"
            " AND e.artifact IS NOT NULL ORDER BY e.ended DESC, e.rowid DESC LIMIT 1",
            (key,),
        )
        return rows[0]["artifact"] if rows else None

    def artifacts(self, *, kind: str | None = None) -> list[dict[str, Any]]:
        """Newest first: id, kind, size_bytes, created, run."""
        where = "WHERE kind = ?" if kind else ""
        return self._rows(f"SELECT * FROM artifacts {where} ORDER BY created DESC, rowid DESC", (kind,) if kind else ())

    def parents(self, artifact: str) -> list[str]:
        return [r["parent"] for r in self._rows("SELECT parent FROM parents WHERE artifact=?", (artifact,))]

    # requests

    def add_request(
        self,
        *,
        request: str,
        route: str,
        model: str,
        status: int,
        prompt_tokens: int,
        completion_tokens: int,
        seconds: float,
        energy_joules: Quantity,
        tenant: str = "",
    ) -> None:
        """`tenant` is the name of the API key that asked."""
        with self._writing() as db:
            db.execute(
                "INSERT INTO requests (id, time, route, model, status, prompt_tokens, completion_tokens, seconds,"
                " joules_low, joules, joules_high, method, tenant) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    *(request, now(), route, model, status, prompt_tokens, completion_tokens, seconds),
                    *_columns(energy_joules),
                    tenant,
                ),
            )

    def requests(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first: id, time, tenant, route, model, status, tokens, seconds, energy_joules."""
        rows = self._rows("SELECT * FROM requests ORDER BY time DESC, rowid DESC LIMIT ?", (limit,))
        return [{**_without_joules(row), "energy_joules": _quantity(row).to_dict()} for row in rows]


_RUN_QUERY = (
    "SELECT r.id, r.stage, r.key, r.config, r.seed, r.versions, r.meters, r.started, e.state, e.ended, e.seconds,"
    " e.joules_low, e.joules, e.joules_high, e.method, e.error, e.artifact"
    " FROM runs r LEFT JOIN run_ends e ON e.run = r.id"
)


def _run_row(row: Mapping[str, Any]) -> dict[str, Any]:
    run = _without_joules(row)
    for name in ("config", "versions", "meters"):
        run[name] = json.loads(run[name])
    run["state"] = run["state"] or "running"
    run["energy_joules"] = _quantity(row).to_dict()
    return run


def _without_joules(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k not in ("joules_low", "joules", "joules_high", "method")}


def _columns(quantity: Quantity) -> tuple[float | None, float | None, float | None, str]:
    return (quantity.low, quantity.central, quantity.high, quantity.method)


def _quantity(row: Mapping[str, Any]) -> Quantity:
    if row["method"] in (None, "unknown"):
        return Quantity.unknown()
    return Quantity(low=row["joules_low"], central=row["joules"], high=row["joules_high"], method=row["method"])


def _ledger_error(error: sqlite3.Error, path: Path) -> ArtifactError:
    text = str(error)
    hint = ""
    if "full" in text:
        hint = "the disk is full: free some space and run the same command again"
    elif "readonly" in text or "unable to open" in text:
        hint = "choose a folder that you may write to: --home DIR or BLOOMERY_HOME"
    elif "malformed" in text or "not a database" in text:
        hint = "the file is damaged: move it away and a new one is begun; artifacts keep their own manifests"
    return ArtifactError(f"ledger {path}: {text}", hint=hint)
