"""Problems: what was wrong in the sources, counted by reason and named with file and line.

This module does not know how anything is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.errors import DataError
from bloomery.corpus.document import readable
from bloomery.corpus.record import Record

LISTED = 100


@dataclass
class Problems:
    """Counts every problem, keeps the first LISTED of them; with `strict` the first one is a DataError."""

    strict: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    listed: list[dict[str, Any]] = field(default_factory=list)
    dropped: Callable[[str, str, str], None] | None = None
    """Is told of every record that gave no document: reason, where, detail."""

    def add(self, reason: str, where: str, detail: str = "") -> None:
        """`reason` is a short word, `where` a file with its line or row, `detail` one line of explanation."""
        where, detail = readable(where), " ".join(readable(detail).split())  # a file's name need not be UTF-8
        if self.strict:
            said = f"{where}: {reason.replace('_', ' ')}" + (f" ({detail})" if detail else "")
            raise DataError(said, hint="mend the source, or leave `strict` off to count problems and go on")
        self.counts[reason] += 1
        if len(self.listed) < LISTED:
            self.listed.append({"reason": reason, "where": where, "detail": detail[:300]})

    def drop(self, reason: str, where: str, detail: str = "") -> None:
        """A record that gives no document without being broken: a picture, an error page, a header."""
        if self.dropped is not None:
            self.dropped(reason, readable(where), " ".join(readable(detail).split())[:300])

    def refuse(self, reason: str, where: str, detail: str = "") -> None:
        """A record that gives no document because it is broken: a problem, and dropped."""
        self.add(reason, where, detail)
        self.drop(reason, where, detail)

    def tell(self, record: Record) -> None:
        """What a record that is no document says. DataError for a broken file that the user named."""
        if record.kind == "problem":
            self.add(record.reason, record.source, record.detail)
        elif record.kind == "refused":
            self.drop(record.reason, record.source, record.detail)
        elif record.kind == "broken":
            if (record.more or {}).get("named"):
                hint = "give text, Markdown, JSONL or Parquet" if record.reason == "binary" else "check the file"
                raise DataError(f"{record.source} is {record.reason}: {record.detail}", hint=hint)
            self.add(record.reason, record.source, record.detail)

    @property
    def total(self) -> int:
        return self.counts.total()

    def first(self) -> str:
        """The first problem in words, or ""."""
        if not self.listed:
            return ""
        problem = self.listed[0]
        said = f"{problem['where']}: {problem['reason'].replace('_', ' ')}"
        return f"{said} ({problem['detail']})" if problem["detail"] else said


class RecordedProblems(Problems):
    """Problems as records, for whoever counts them."""

    def __init__(self, put: Callable[[Record], None]) -> None:
        super().__init__()
        self._put = put

    def add(self, reason: str, where: str, detail: str = "") -> None:
        self._put(Record("problem", source=where, reason=reason, detail=detail[:1000]))

    def drop(self, reason: str, where: str, detail: str = "") -> None:
        self._put(Record("refused", source=where, reason=reason, detail=detail[:1000]))
