"""The ledger's schema as numbered, append-only migrations: never change one that has been released.

Migration n brings `PRAGMA user_version` from n-1 to n. This module does not know how rows are used.
"""

from __future__ import annotations

from bloomery.core.database import JOULES


def _append_only(table: str) -> tuple[str, str]:
    return (
        f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}"
        f" BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
        f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table}"
        f" BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    )


_FIRST_TABLES = {
    "runs": "id TEXT PRIMARY KEY, stage TEXT NOT NULL, key TEXT NOT NULL, config TEXT NOT NULL, seed INTEGER NOT NULL,"
    " versions TEXT NOT NULL, meters TEXT NOT NULL, started REAL NOT NULL",
    "run_inputs": "run TEXT NOT NULL REFERENCES runs(id), artifact TEXT NOT NULL",
    "artifacts": "id TEXT PRIMARY KEY, kind TEXT NOT NULL, size_bytes INTEGER NOT NULL, created REAL NOT NULL,"
    " run TEXT NOT NULL REFERENCES runs(id)",
    "parents": "artifact TEXT NOT NULL REFERENCES artifacts(id), parent TEXT NOT NULL, PRIMARY KEY (artifact, parent)",
    "run_ends": "run TEXT PRIMARY KEY REFERENCES runs(id), state TEXT NOT NULL CHECK (state IN ('finished','failed')),"
    f" ended REAL NOT NULL, seconds REAL NOT NULL, {JOULES}, error TEXT NOT NULL,"
    " artifact TEXT REFERENCES artifacts(id)",
    "phases": f"run TEXT NOT NULL REFERENCES runs(id), name TEXT NOT NULL, seconds REAL NOT NULL, {JOULES}",
    "metrics": "run TEXT NOT NULL REFERENCES runs(id), name TEXT NOT NULL, value REAL NOT NULL, step INTEGER",
    "requests": "id TEXT PRIMARY KEY, time REAL NOT NULL, route TEXT NOT NULL, model TEXT NOT NULL,"
    " status INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,"
    f" seconds REAL NOT NULL, {JOULES}",
}

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        *(f"CREATE TABLE {name} ({columns})" for name, columns in _FIRST_TABLES.items()),
        "CREATE INDEX runs_by_key ON runs(key)",
        "CREATE INDEX metrics_by_run ON metrics(run)",
        *(statement for name in _FIRST_TABLES for statement in _append_only(name)),
    ),
    # Whose request it was: the name of an API key; "" before there were names.
    ("ALTER TABLE requests ADD COLUMN tenant TEXT NOT NULL DEFAULT ''",),
)
