"""Judgements: questions, passages, and which passages are known to answer which question.

This module does not know how anything is learnt from them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.config import digest
from bloomery.core.errors import DataError

_MAX_LINE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Judgements:
    """`relevant` names, for each question, one passage or more that answer it; what it does not name is unjudged, and
    only probably no answer. DataError where it names what is not there."""

    queries: Mapping[str, str]
    passages: Mapping[str, str]
    relevant: Mapping[str, frozenset[str]]

    def __post_init__(self) -> None:
        if not self.relevant:
            raise DataError("there is no question with a passage that answers it")
        for query, found in self.relevant.items():
            if query not in self.queries or not found:
                raise DataError(f"question {query!r:.60} has no text, or no passage")
            if missing := found - self.passages.keys():
                raise DataError(f"question {query!r:.60} is answered by {min(missing)!r:.60}, which is no passage")

    def only(self, queries: Iterator[str] | set[str] | list[str]) -> Judgements:
        """These questions, with all passages."""
        kept = {query: self.relevant[query] for query in queries}
        return Judgements(queries={q: self.queries[q] for q in kept}, passages=self.passages, relevant=kept)

    @property
    def fingerprint(self) -> str:
        """Of the whole content."""
        relevant = {query: sorted(found) for query, found in sorted(self.relevant.items())}
        return digest([dict(sorted(self.queries.items())), dict(sorted(self.passages.items())), relevant])

    @classmethod
    def read(cls, folder: str | Path, split: str = "train") -> Judgements:
        """A folder as BEIR keeps its data (Thakur et al., arXiv 2104.08663): queries.jsonl and corpus.jsonl with `_id`,
        `title` and `text`, and qrels/SPLIT.tsv with a head and `query-id`, `corpus-id`, `score`."""
        folder = Path(folder)
        queries = {str(row["_id"]): str(row["text"]) for row in _rows(folder / "queries.jsonl")}
        passages = {
            str(row["_id"]): " ".join(part for part in (str(row.get("title") or ""), str(row["text"])) if part)
            for row in _rows(folder / "corpus.jsonl")
        }
        relevant: dict[str, set[str]] = {}
        for number, line in enumerate(_lines(folder / "qrels" / f"{split}.tsv"), 1):
            cells = line.rstrip("\n").split("\t")
            if number == 1 and not cells[-1].lstrip("-").isdigit():
                continue
            if len(cells) != 3 or not cells[2].lstrip("-").isdigit():
                raise DataError(f"{split}.tsv:{number} should hold question, passage and grade with tabs between them")
            if int(cells[2]) > 0:
                relevant.setdefault(cells[0], set()).add(cells[1])
        judged = {query: frozenset(found) for query, found in relevant.items()}
        return cls(queries={q: queries[q] for q in judged if q in queries}, passages=passages, relevant=judged)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            while line := file.readline(_MAX_LINE):
                yield line
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="queries.jsonl, corpus.jsonl, qrels/train.tsv"
        ) from None


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or "_id" not in row or not isinstance(row.get("text"), str):
            raise DataError(f"{path}:{number} should be an object with _id and text")
        yield row
