"""Documents: what the arms that read are given: a folder of texts, or JSON lines. This module does not know indexes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.errors import DataError

SUFFIXES = (".txt", ".md", ".rst")
_MAX_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class TaskDocument:
    """A text with a name of its own."""

    id: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


def documents_digest(source: str) -> str:
    """SHA-256 over names and contents; "" for no documents. DataError where they are not there."""
    if not source:
        return ""
    found = hashlib.sha256()
    root = Path(source)
    for path in _files(root):
        name, data = path.name if path == root else path.relative_to(root).as_posix(), path.read_bytes()
        found.update(f"{name}\0{len(data)}\0".encode("utf-8", "backslashreplace"))
        found.update(data)
    return found.hexdigest()


def read_documents(source: str) -> Iterator[TaskDocument]:
    """Documents in the order of their names or lines: texts and Markdown whole, of JSON lines "text" (and "id",
    "title"). DataError, with the line, for what is none."""
    root = Path(source)
    for path in _files(root):
        if path.suffix == ".jsonl":
            yield from _lines(path)
        else:
            text = path.read_text(encoding="utf-8-sig", errors="replace")
            if text.strip():
                yield TaskDocument(id=path.name if path == root else path.relative_to(root).as_posix(), text=text)


def _files(root: Path) -> list[Path]:
    try:
        named = sorted(path for path in root.rglob("*") if path.suffix in (*SUFFIXES, ".jsonl"))
        found = [root] if root.is_file() else [path for path in named if path.is_file()]
        size = sum(path.stat().st_size for path in found)
    except OSError as error:
        raise DataError(f"documents at {root} cannot be read: {error.strerror}") from error
    if not found:
        raise DataError(f"no documents at {root}", hint="a folder of .txt, .md, .rst or .jsonl files, or one of them")
    if size > _MAX_BYTES:
        raise DataError(f"documents at {root} are more than {_MAX_BYTES >> 20} MiB", hint="bloomery index, and ask")
    return found


def _lines(path: Path) -> Iterator[TaskDocument]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}:{number} is no JSON: {error}") from None
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise DataError(f'{path}:{number} should hold an object with a "text"')
            title = str(row.get("title") or "")
            text = f"{title}\n\n{row['text']}" if title else row["text"]
            if text.strip():
                yield TaskDocument(id=str(row.get("id", f"{path.name}:{number}")), text=text)
