"""Annotation store: who said what of which document, when, asked with which instruction, and what it cost.

One SQLite file in the workspace, append-only: nobody's answer is ever changed, a later one of the same annotator takes
its place when answers are read. A document that was asked about is kept with it, so that answers mean something without
the corpus. Only its owner may read the file. This module does not know who annotates, nor how.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from bloomery.core.artifact import as_artifact_error
from bloomery.core.database import JOULES, Database, quantity_columns, quantity_of
from bloomery.core.errors import ConfigError, nearest
from bloomery.core.quantity import Quantity
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.document import Document, readable

FILE = "annotations.sqlite"
Annotator = Literal["rules", "model", "person"]
_PAGE = 10_000
_TABLES = ("questions", "items", "annotations")
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE questions (id TEXT PRIMARY KEY, name TEXT NOT NULL, question TEXT NOT NULL, time REAL NOT NULL)",
        "CREATE TABLE items (id TEXT PRIMARY KEY, text TEXT NOT NULL, source TEXT NOT NULL, metadata TEXT NOT NULL)",
        "CREATE TABLE annotations (number INTEGER PRIMARY KEY, question TEXT NOT NULL REFERENCES questions(id),"
        " item TEXT NOT NULL REFERENCES items(id), annotator TEXT NOT NULL,"
        " kind TEXT NOT NULL CHECK (kind IN ('rules', 'model', 'person')), value TEXT, probabilities TEXT,"
        " detail TEXT NOT NULL, origin TEXT NOT NULL, time REAL NOT NULL, seconds REAL, prompt_tokens INTEGER,"
        f" completion_tokens INTEGER, money REAL, currency TEXT NOT NULL, {JOULES})",
        "CREATE UNIQUE INDEX annotations_once ON annotations(question, annotator, item, origin)",
        "CREATE INDEX annotations_by_item ON annotations(item)",
        *(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table}"
            " BEGIN SELECT RAISE(ABORT, 'annotations are never changed'); END"
            for table in _TABLES
            for action in ("UPDATE", "DELETE")
        ),
    ),
)
_COLUMNS = (
    "question, item, annotator, kind, value, probabilities, detail, origin, time, seconds, prompt_tokens,"
    " completion_tokens, money, currency, joules_low, joules, joules_high, method"
)


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One answer. `value` None: asked, and no answer (skipped, or none that counts: `detail` says why).

    `origin` tells two answers of one annotator to one question apart: the same origin is the same answer, and is kept
    once. `probabilities` by label, where they are known. None and unknown are what nobody measured.
    """

    item: str
    annotator: str
    kind: Annotator
    value: Any
    origin: str = ""
    probabilities: dict[str, float] | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    time: float | None = None
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    money: float | None = None
    currency: str = ""
    energy_joules: Quantity = field(default_factory=Quantity.unknown)


class AnnotationStore(Database):
    """Thread-safe, and for several processes. Opening creates the file."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise as_artifact_error(error, "cannot open the annotation store") from error
        super().__init__(path, MIGRATIONS, name="annotation store")

    def __enter__(self) -> AnnotationStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, question: Question, document: Document, annotation: Annotation) -> bool:
        """Keep an answer; False if it is there already. DataError for one that is no answer to the question."""
        return self.add_all(question, [(document, annotation)]) == 1

    def add_all(self, question: Question, answers: Iterable[tuple[Document, Annotation]]) -> int:
        """Keep answers, all or none; returns how many were new. They are read as they are written."""
        now, new = time.time(), 0
        places = ",".join("?" * len(_COLUMNS.split(",")))
        with self._writing() as db:
            db.execute(
                "INSERT OR IGNORE INTO questions VALUES (?,?,?,?)",
                (question.id, question.name, json.dumps(question.to_dict(), ensure_ascii=False), now),
            )
            for document, one in answers:
                row = _row(question, one, now)
                metadata = json.dumps(document.metadata, allow_nan=False)
                item = (document.id, readable(document.text), readable(document.source), metadata)
                db.execute("INSERT OR IGNORE INTO items VALUES (?,?,?,?)", item)
                new += db.execute(f"INSERT OR IGNORE INTO annotations ({_COLUMNS}) VALUES ({places})", row).rowcount
        return new

    def questions(self) -> list[dict[str, Any]]:
        """Newest first: id, name, kind, time, annotators and answers that count."""
        rows = self._rows(
            "SELECT id, name, question, time, (SELECT count(DISTINCT annotator) FROM annotations WHERE question = id)"
            " AS annotators, (SELECT count(*) FROM (SELECT DISTINCT annotator, item FROM annotations"
            " WHERE question = id AND value IS NOT NULL)) AS answers FROM questions ORDER BY time DESC, rowid DESC"
        )
        return [{**row, "question": json.loads(row["question"])} for row in rows]

    def question(self, reference: str) -> Question:
        """By id, or the newest of a name. ConfigError if there is none."""
        known = self.questions()
        for row in known:
            if reference in (row["id"], row["name"]):
                return Question.of(row["question"])
        hint = nearest(reference, {row["name"] for row in known}) if known else "bloomery annotate model asks one"
        raise ConfigError(f"no question {reference!r:.80} was ever asked here", hint=hint)

    def answers(
        self,
        question: Question,
        *,
        annotators: Sequence[str] = (),
        kinds: Sequence[Annotator] = (),
        every: bool = False,
    ) -> Iterator[Annotation]:
        """The last answer of each annotator to each document, oldest first; with `every` all that were ever given."""
        conditions, values = ["question = ?"], [question.id]
        for column, wanted in (("annotator", annotators), ("kind", kinds)):
            if wanted:
                conditions.append(f"{column} IN ({','.join('?' * len(wanted))})")
                values += wanted
        last = " AND number IN (SELECT max(number) FROM annotations WHERE question = ? GROUP BY annotator, item)"
        if not every:
            values.append(question.id)
        number = 0
        while True:
            rows = self._rows(
                f"SELECT * FROM annotations WHERE {' AND '.join(conditions)}{'' if every else last} AND number > ?"
                f" ORDER BY number LIMIT {_PAGE}",
                (*values, number),
            )
            for row in rows:
                yield _annotation(row)
            if not rows:
                return
            number = rows[-1]["number"]

    def asked(self, question: Question, annotator: str) -> set[tuple[str, str]]:
        """(item, origin) of everything that an annotator was asked."""
        rows = self._rows(
            "SELECT item, origin FROM annotations WHERE question = ? AND annotator = ?", (question.id, annotator)
        )
        return {(row["item"], row["origin"]) for row in rows}

    def documents(self, ids: Iterable[str]) -> dict[str, Document]:
        """The documents that were asked about, by id; those that are not here are left out."""
        found: dict[str, Document] = {}
        wanted = list(dict.fromkeys(ids))
        for at in range(0, len(wanted), 500):
            part = wanted[at : at + 500]
            for row in self._rows(f"SELECT * FROM items WHERE id IN ({','.join('?' * len(part))})", part):
                found[row["id"]] = Document(row["id"], row["text"], row["source"], json.loads(row["metadata"]))
        return found


def _check_kind(one: Annotation) -> None:
    if one.kind not in get_args(Annotator):
        raise ConfigError(f"{one.kind!r:.40} is no kind of annotator", hint=nearest(str(one.kind), get_args(Annotator)))


def _row(question: Question, one: Annotation, now: float) -> tuple[Any, ...]:
    _check_kind(one)  # SQLite would pass it over in silence, as it does copies
    value = None if one.value is None else json.dumps(question.checked(one.value), ensure_ascii=False)
    chances = None if one.probabilities is None else json.dumps(one.probabilities, allow_nan=False)
    detail = json.dumps(one.detail, allow_nan=False)
    return (
        *(question.id, one.item, readable(one.annotator), one.kind, value and readable(value), chances, detail),
        *(one.origin, now if one.time is None else one.time, one.seconds, one.prompt_tokens, one.completion_tokens),
        *(one.money, one.currency, *quantity_columns(one.energy_joules)),
    )


def _annotation(row: dict[str, Any]) -> Annotation:
    same = ("item", "annotator", "kind", "origin", "time", "seconds", "prompt_tokens", "completion_tokens", "money")
    return Annotation(
        **{name: row[name] for name in (*same, "currency")},
        value=None if row["value"] is None else json.loads(row["value"]),
        probabilities=None if row["probabilities"] is None else json.loads(row["probabilities"]),
        detail=json.loads(row["detail"]),
        energy_joules=quantity_of(row),
    )
