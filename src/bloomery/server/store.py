"""RequestStore: the requests that were served, searched afterwards, and what people thought of the answers.

A database beside the ledger, for the ledger never forgets and this one must: rows go when they are too old or too many.
With "metadata" it holds who asked which model, when, how much and what it took; with "content" also the prompts, as the
model read them, and the answers, as text and token ids. Only its owner may read the file, and what is deleted is
overwritten. Rows are never changed. A clock that jumps ages nothing: while the store is open time goes on as fast as
it passes, and a row that came after a young one is young. This module does not know HTTP or rights.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bloomery.core.artifact import as_artifact_error
from bloomery.core.database import JOULES, Database, quantity_columns, quantity_of, without_joules
from bloomery.core.errors import RequestError
from bloomery.server.record import Record

FILE = "requests.sqlite"
MAX_FEEDBACK = 100
"""Of one request."""
_DAY_SECONDS = 86_400
_PRUNE_EVERY = 64
_SETTLE_SECONDS = 3_600.0
"""A store of which everything is too old at opening was not used for long, or the clock is wrong: so long nothing is
deleted, for a clock that was wrong at boot is put right soon after."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE requests (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time REAL NOT NULL,"
        " tenant TEXT NOT NULL, route TEXT NOT NULL, model TEXT NOT NULL, status INTEGER NOT NULL,"
        " finish_reasons TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,"
        " cached_tokens INTEGER NOT NULL, seconds REAL NOT NULL, queue_seconds REAL NOT NULL,"
        f" first_token_seconds REAL, prefill_seconds REAL NOT NULL, decode_seconds REAL NOT NULL, {JOULES})",
        "CREATE INDEX requests_by_time ON requests(time)",
        "CREATE TABLE texts (request INTEGER NOT NULL REFERENCES requests(number) ON DELETE CASCADE,"
        " kind TEXT NOT NULL CHECK (kind IN ('prompt', 'answer')), place INTEGER NOT NULL, text TEXT NOT NULL,"
        " ids TEXT NOT NULL)",
        "CREATE INDEX texts_by_request ON texts(request)",
        "CREATE TABLE feedback (request INTEGER NOT NULL REFERENCES requests(number) ON DELETE CASCADE,"
        " time REAL NOT NULL, tenant TEXT NOT NULL, score REAL NOT NULL CHECK (score BETWEEN -1 AND 1),"
        " comment TEXT NOT NULL)",
        "CREATE INDEX feedback_by_request ON feedback(request)",
        *(
            f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table}"
            " BEGIN SELECT RAISE(ABORT, 'rows of the request store are never changed'); END"
            for table in ("requests", "texts", "feedback")
        ),
    ),
    (
        "CREATE TABLE responses (request INTEGER NOT NULL UNIQUE REFERENCES requests(number) ON DELETE CASCADE,"
        " response TEXT NOT NULL, items TEXT NOT NULL)",
        "CREATE TRIGGER responses_no_update BEFORE UPDATE ON responses"
        " BEGIN SELECT RAISE(ABORT, 'rows of the request store are never changed'); END",
    ),
)


class RequestStore(Database):
    """Thread-safe. What is past its age is never shown, and deleted at opening and every few requests."""

    def __init__(
        self, path: Path, *, content: bool = False, max_rows: int | None = None, max_days: float | None = None
    ) -> None:
        """Opening creates the file. `content` keeps prompts and answers of what is added; None is no bound."""
        self._content = content
        self._max_rows = max_rows
        self._max_days = max_days
        self._added = 0
        self._opened = (time.time(), _elapsed())
        self._deletes_from = self._opened[1]
        _create_for_owner(path)
        super().__init__(path, MIGRATIONS, name="request store")
        with self._lock:
            self._db.execute("PRAGMA secure_delete=ON")
        if 0 < self._last() <= self._cut():
            self._deletes_from += _SETTLE_SECONDS
        self.prune()

    def add(self, record: Record) -> None:
        """Keep a request that is over; its content too, if that is kept and the client has not asked otherwise."""
        with self._writing() as db:
            number = db.execute(
                "INSERT INTO requests (id, time, tenant, route, model, status, finish_reasons, prompt_tokens,"
                " completion_tokens, cached_tokens, seconds, queue_seconds, first_token_seconds, prefill_seconds,"
                " decode_seconds, joules_low, joules, joules_high, method)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    *(record.id, record.time, record.tenant, record.route, record.model, record.status),
                    *(json.dumps(record.finish_reasons), record.prompt_tokens, record.completion_tokens),
                    *(record.cached_tokens, record.seconds, record.queue_seconds, record.first_token_seconds),
                    *(record.prefill_seconds, record.decode_seconds, *quantity_columns(record.energy)),
                ),
            ).lastrowid
            if self._content and not record.private:
                prompts = record.prompts()
                ids = record.prompt_ids or [()] * len(prompts)
                _add_texts(db, number, "prompt", prompts, ids)
                _add_texts(db, number, "answer", [one[0] for one in record.texts], [one[1] for one in record.texts])
        self._added += 1
        if self._added % _PRUNE_EVERY == 0:
            self.prune()

    def prune(self) -> int:
        """Delete what is too old, and the oldest of what is too many; returns how many."""
        gone = 0
        with self._writing() as db:
            if _elapsed() >= self._deletes_from:
                gone += db.execute("DELETE FROM requests WHERE number <= ?", (self._cut(),)).rowcount
            if self._max_rows is not None:
                gone += db.execute(
                    "DELETE FROM requests WHERE number <= (SELECT number FROM requests ORDER BY number DESC"
                    " LIMIT 1 OFFSET ?)",
                    (self._max_rows,),
                ).rowcount
        return gone

    def _now(self) -> float:
        """Seconds since 1970: the clock, but never further on than what has passed since opening."""
        wall, elapsed = self._opened
        return min(time.time(), wall + _elapsed() - elapsed)

    def _cut(self) -> int:
        """The number up to which rows are past their age: of the last too old one that no young one came before."""
        if self._max_days is None:
            return 0
        now = self._now()
        oldest = now - self._max_days * _DAY_SECONDS
        # `+time` keeps the order of numbers, in which the first row mostly answers; a time to come says nothing.
        young = "SELECT number FROM requests WHERE +time BETWEEN ? AND ? ORDER BY number LIMIT 1"
        first = self._rows(young, (oldest, now))
        old = "SELECT number FROM requests WHERE +time < ? AND number < ? ORDER BY number DESC LIMIT 1"
        last = self._rows(old, (oldest, first[0]["number"] if first else self._last() + 1))
        return last[0]["number"] if last else 0

    def _last(self) -> int:
        return self._rows("SELECT coalesce(max(number), 0) AS number FROM requests")[0]["number"]

    def find(
        self,
        *,
        tenant: str | None = None,
        text: str = "",
        model: str = "",
        since: float | None = None,
        until: float | None = None,
        after: str = "",
        limit: int = 20,
    ) -> list[dict[str, Any]]:
        """Newest first; of one tenant, or of all. `text` stands in a prompt or an answer (large and small letters of
        ASCII are the same). `since` <= time < `until`, seconds since 1970. `after` is the id that the last page ended
        with; RequestError if it is not there."""
        conditions: list[str] = ["number > ?"]
        values: list[Any] = [self._cut()]
        plain: dict[str, Any] = {
            "tenant = ?": tenant,
            "model = ?": model or None,
            "time >= ?": since,
            "time < ?": until,
        }
        for condition, value in plain.items():
            if value is not None:
                conditions.append(condition)
                values.append(_sound(value) if isinstance(value, str) else value)
        if after:
            conditions.append("number < ?")
            values.append(self._numbered(after, tenant)["number"])
        if text:
            conditions.append("number IN (SELECT request FROM texts WHERE text LIKE ? ESCAPE '\\')")
            escaped = _sound(text).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            values.append(f"%{escaped}%")
        rows = self._rows(f"{_QUERY} WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?", (*values, limit))
        return [_plain(row) for row in rows]

    def get(self, request: str, *, tenant: str | None = None) -> dict[str, Any]:
        """One request with its prompts, answers and feedback. RequestError 404 if there is none of this tenant's."""
        row = self._numbered(request, tenant)
        number = row["number"]
        texts = self._rows("SELECT * FROM texts WHERE request = ? ORDER BY place", (number,))
        told: dict[str, Any] = _plain(row)
        for kind in ("prompt", "answer"):
            found = [{"text": t["text"], "token_ids": json.loads(t["ids"])} for t in texts if t["kind"] == kind]
            told[f"{kind}s"] = found or None
        told["feedback"] = self._rows(
            "SELECT time, tenant, score, comment FROM feedback WHERE request = ? ORDER BY rowid", (number,)
        )
        return told

    @property
    def keeps_content(self) -> bool:
        return self._content

    def add_response(self, response: dict[str, Any], items: Sequence[dict[str, Any]]) -> None:
        """Keep a response of /v1/responses, whose request is kept already, and all items of its conversation."""
        number = self._numbered(response["id"], None)["number"]
        told, listed = (_sound(json.dumps(one, separators=(",", ":"))) for one in (response, list(items)))
        with self._writing() as db:
            db.execute("INSERT INTO responses (request, response, items) VALUES (?,?,?)", (number, told, listed))

    def response(self, response: str, *, tenant: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """A response and the items of its conversation, its own included; None if it is not kept, or another's."""
        rows = self._rows(
            "SELECT response, items FROM responses JOIN requests ON number = request"
            " WHERE id = ? AND tenant = ? AND number > ?",
            (_sound(response), tenant, self._cut()),
        )
        return (json.loads(rows[0]["response"]), json.loads(rows[0]["items"])) if rows else None

    def forget_response(self, response: str, *, tenant: str) -> bool:
        """Whether there was one. Its content goes with it; that there was a request, and what it took, stays."""
        which = "request IN (SELECT number FROM requests WHERE id = ? AND tenant = ?)"
        with self._writing() as db:
            gone = db.execute(f"DELETE FROM responses WHERE {which}", (_sound(response), tenant)).rowcount
            if gone:
                db.execute(f"DELETE FROM texts WHERE {which}", (_sound(response), tenant))
        return gone > 0

    def add_feedback(
        self, request: str, *, score: float, comment: str = "", by: str = "", tenant: str | None = None
    ) -> None:
        """What somebody (`by`) thought of a request's answer: from -1 to 1. RequestError 404 if there is none of this
        tenant's, 409 if it has MAX_FEEDBACK already."""
        row = self._numbered(request, tenant)
        if row["num_feedback"] >= MAX_FEEDBACK:
            raise RequestError(f"there is feedback enough for {row['id']}", code="too_much_feedback", status=409)
        with self._writing() as db:
            db.execute(
                "INSERT INTO feedback (request, time, tenant, score, comment) VALUES (?,?,?,?,?)",
                (row["number"], time.time(), _sound(by), score, _sound(comment)),
            )

    def _numbered(self, request: str, tenant: str | None) -> dict[str, Any]:
        rows = self._rows(f"{_QUERY} WHERE id = ? AND number > ?", (_sound(request), self._cut()))
        if not rows or tenant not in (None, rows[0]["tenant"]):
            raise RequestError(f"no request {request!r:.200} is kept", code="request_not_found", status=404)
        return rows[0]


_QUERY = (
    "SELECT *, (SELECT count(*) FROM feedback WHERE request = number) AS num_feedback,"
    " (SELECT avg(score) FROM feedback WHERE request = number) AS mean_score FROM requests"
)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in without_joules(row).items() if name != "number"}
    told["finish_reasons"] = json.loads(told["finish_reasons"])
    return {**told, "energy_joules": quantity_of(row).to_dict()}


def _add_texts(
    db: sqlite3.Connection, number: int | None, kind: str, texts: Sequence[str], ids: Sequence[Sequence[int]]
) -> None:
    db.executemany(
        "INSERT INTO texts (request, kind, place, text, ids) VALUES (?,?,?,?,?)",
        [
            (number, kind, place, _sound(text), json.dumps(list(map(int, one)), separators=(",", ":")))
            for place, (text, one) in enumerate(zip(texts, ids, strict=True))
        ],
    )


def _elapsed() -> float:
    """Seconds that pass whatever the clock says; a laptop's sleep counts where the system can tell."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _sound(text: str) -> str:
    """SQLite takes no half characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _create_for_owner(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise as_artifact_error(error, "cannot open the request store") from error
