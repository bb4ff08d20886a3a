"""Judgements: queries and which documents answer them, in the forms of TREC and of BEIR.

Queries are JSONL with `_id` and `text` (BEIR), or two columns with a tab between; judgements are TREC's
`query 0 document grade`, or BEIR's `query document grade` with a tab between and a title line. This module does not
know indexes or measures.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from bloomery.core.errors import DataError

Queries = Mapping[str, str]
"""A query's id to its text."""
Judgements = Mapping[str, Mapping[str, int]]
"""A query's id to documents and their grades; 0 is judged and no answer."""
_MAX_BYTES = 1 << 30


def read_queries(path: str | Path) -> dict[str, str]:
    """The queries of a file, in its order. DataError, with the line, for what is none."""
    found: dict[str, str] = {}
    for number, line in _lines(Path(path)):
        if line.startswith("{"):
            try:
                row = json.loads(line)
                name, text = str(row["_id"] if "_id" in row else row["id"]), row["text"]
            except (KeyError, TypeError, ValueError, RecursionError):
                raise DataError(f"{path}, line {number}: no query", hint='{"_id": "1", "text": "..."}') from None
        else:
            name, tab, text = line.partition("\t")
            if not tab:
                raise DataError(f"{path}, line {number}: no query", hint="an id, a tab, the query")
        if not isinstance(text, str) or not text.strip() or not name:
            raise DataError(f"{path}, line {number}: a query without text or id")
        if found.setdefault(name, text.strip()) != text.strip():
            raise DataError(f"{path}, line {number}: another query {name!r}")
    if not found:
        raise DataError(f"{path} holds no query")
    return found


def read_judgements(path: str | Path) -> dict[str, dict[str, int]]:
    """The judgements of a file. DataError, with the line, for what is none."""
    found: dict[str, dict[str, int]] = {}
    for number, line in _lines(Path(path)):
        parts = line.split("\t") if "\t" in line else line.split()
        if number == 1 and parts[-1].strip().lower() in ("score", "grade", "relevance", "rel"):
            continue
        try:
            query, document, grade = [parts[at] for at in ((0, 2, 3) if len(parts) == 4 else (0, 1, 2))]
            found.setdefault(query.strip(), {})[document.strip()] = int(float(grade))
        except (IndexError, ValueError, OverflowError):
            said = f"{path}, line {number}: no judgement"
            raise DataError(said, hint="query 0 document grade, or query, document and grade with tabs") from None
    if not found:
        raise DataError(f"{path} holds no judgement")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, line) of lines that are not blank, of a plain or gzip file."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} is larger than {_MAX_BYTES >> 30} GiB")
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line.strip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {path}: {reason}", hint="UTF-8 text, plain or .gz") from error
