"""Record: what reading gives, one after the other: a document, one taken out, a problem, or a record without a text.

Stages (`batch_stages`) are functions from a batch of records to a batch; between processes, on disk and on Ray a record
is a row of plain JSON data. This module does not know what is done with them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from bloomery.corpus.document import Document

Kind = Literal["document", "taken", "problem", "refused", "broken", "begin", "done", "failed"]
TEXT_COLUMNS = ("kind", "id", "text", "source", "reason", "detail")
OBJECT_COLUMNS = ("metadata", "more", "scores", "lines", "found")


@dataclass
class Record:
    """`item` numbers what the reader gave within its span: the pieces of a text that is cut share one.

    `taken` is a document that a stage took out (its text is gone), `problem` what was wrong in a source, `refused` a
    record of a source that gives no document, `broken` a file that cannot be read at all (`more`: whether the user
    named it); of these `source` says where. On Ray, where records of several spans come in one stream, `begin` and
    `done` stand around those of a span (`more`: where it began, or where the next should), and `failed` is an error.
    """

    kind: Kind
    item: int = 0
    span: int = 0
    id: str = ""
    text: str = ""
    source: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""
    more: dict[str, Any] | None = None
    """What `dropped.jsonl.zst` says beside the reason."""
    scores: dict[str, Any] | None = None
    """The row of scores.parquet, and in `lines` its rows of lines.parquet by column, where rules were applied."""
    lines: dict[str, list[int] | None] | None = None
    found: dict[str, int] | None = None
    """Values of personal data by kind."""

    @classmethod
    def of(cls, document: Document) -> Record:
        return cls("document", 0, 0, document.id, document.text, document.source, document.metadata)

    @classmethod
    def of_broken(cls, path: str, reason: str, detail: str, *, named: bool) -> Record:
        return cls("broken", source=path, reason=reason, detail=detail, more={"named": named})

    @property
    def document(self) -> Document:
        return Document(self.id, self.text, self.source, self.metadata)

    def put(self, document: Document) -> Record:
        """This record with another text, id and metadata; returns itself."""
        self.id, self.text, self.source, self.metadata = document.id, document.text, document.source, document.metadata
        return self

    def take(self, reason: str, detail: str, more: dict[str, Any] | None = None) -> Record:
        """The document is taken out; returns itself."""
        self.kind, self.reason, self.detail, self.more = "taken", reason, detail, more
        self.text, self.metadata = "", {}
        return self

    def row(self) -> dict[str, Any]:
        """As a row of plain columns, the same for all: what is an object is JSON in a string (None: "")."""
        row = asdict(self)
        for name in OBJECT_COLUMNS:
            row[name] = "" if row[name] is None else json.dumps(row[name], separators=(",", ":"))
        return row

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Record:
        values = {name: row[name] for name in _NAMES}
        for name in OBJECT_COLUMNS:
            values[name] = json.loads(values[name]) if values[name] else None
        return cls(**values)

    def to_list(self) -> list[Any]:
        """Its fields in their order, without the unset ones at the end."""
        values = [getattr(self, name) for name in _NAMES]
        while values and values[-1] is None:
            values.pop()
        return values


_NAMES = tuple(f.name for f in fields(Record))
