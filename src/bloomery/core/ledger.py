"""Ledger: one SQLite file that answers "where did this model come from and what did it cost".

Runs, their ends, phases, metrics, artifacts, their parents, and served requests. Rows are only ever added:
triggers refuse UPDATE and DELETE. WAL and a busy timeout let several processes write at once.

This module does not know folders: whether an artifact is still on disk is the workspace's question.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.database import Database, quantity_columns, quantity_of, without_joules
from bloomery.core.errors import ArtifactError
from bloomery.core.events import now
from bloomery.core.migrations import MIGRATIONS
from bloomery.core.quantity import Quantity


class Ledger(Database):
    """Thread-safe handle on one ledger file; opening creates or migrates it."""

    may_be_read_alone = True

    def __init__(self, path: Path) -> None:
        super().__init__(path, MIGRATIONS, name="ledger")

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
                (
                    run,
                    state,
                    now(),
                    seconds,
                    *quantity_columns(energy_joules),
                    error,
                    artifact.id if artifact else None,
                ),
            )
            if ended.rowcount == 0:
                return
            db.executemany(
                "INSERT INTO phases (run, name, seconds, joules_low, joules, joules_high, method)"
                " VALUES (?,?,?,?,?,?,?)",
                [(run, name, spent, *quantity_columns(joules)) for name, spent, joules in phases],
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
            {"name": r["name"], "seconds": r["seconds"], "energy_joules": quantity_of(r).to_dict()}
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
                    *quantity_columns(energy_joules),
                    tenant,
                ),
            )

    def requests(self, *, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first: id, time, tenant, route, model, status, tokens, seconds, energy_joules."""
        rows = self._rows("SELECT * FROM requests ORDER BY time DESC, rowid DESC LIMIT ?", (limit,))
        return [{**without_joules(row), "energy_joules": quantity_of(row).to_dict()} for row in rows]


_RUN_QUERY = (
    "SELECT r.id, r.stage, r.key, r.config, r.seed, r.versions, r.meters, r.started, e.state, e.ended, e.seconds,"
    " e.joules_low, e.joules, e.joules_high, e.method, e.error, e.artifact"
    " FROM runs r LEFT JOIN run_ends e ON e.run = r.id"
)


def _run_row(row: Mapping[str, Any]) -> dict[str, Any]:
    run = without_joules(row)
    for name in ("config", "versions", "meters"):
        run[name] = json.loads(run[name])
    run["state"] = run["state"] or "running"
    run["energy_joules"] = quantity_of(row).to_dict()
    return run
