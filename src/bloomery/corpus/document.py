"""Document: one text with its id, its source and what is known about it.

This module does not know files, splits or artifacts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

ID_DIGITS = 16


@dataclass(frozen=True)
class Document:
    """`id` is the first 16 hex digits of the SHA-256 of the text's UTF-8 bytes, so equal texts have equal ids.

    `source` names where it came from (a path as the user gave it, or `python-docs:json.decoder`); `metadata` is
    plain JSON data: `line` or `row` within the source, `part` of a text that was cut, and fields asked for.
    """

    id: str
    text: str
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, source: str, metadata: dict[str, Any] | None = None) -> Document:
        """A document whose id is computed; the text must be encodable as UTF-8 (see `readable`)."""
        return cls(text_digest(text).hex()[:ID_DIGITS], text, source, metadata or {})


def text_digest(text: str) -> bytes:
    """SHA-256 of the text's UTF-8 bytes, 32 bytes."""
    return hashlib.sha256(text.encode()).digest()


def content_digest(text: str) -> bytes:
    r"""SHA-256 of the text with line ends as \n and without white space at its end: 32 bytes.

    Deduplication and the split go by it, so that copies saved by different editors are one text, and which of them is
    read first does not matter to the split.
    """
    return text_digest(text.replace("\r\n", "\n").replace("\r", "\n").rstrip() + "\n")


def readable(text: str) -> str:
    """The text with lone surrogates, which no UTF-8 file can hold, replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def cut_text(text: str, limit: int) -> list[str]:
    """The text in pieces of about `limit` characters that end at blank lines, else at line ends.

    The pieces joined are the text. A piece is longer than `limit` only by its last paragraph, and at most twice as
    long: a paragraph longer than that is cut at a line end, a line longer than that anywhere.
    """
    pieces: list[str] = []
    start = 0
    while len(text) - start > limit:
        window = text[start : start + 2 * limit]
        end = _after(window, "\n\n", limit)
        if not end and start + len(window) == len(text):
            break
        end = end or _after(window, "\n", limit) or _after(window, " ", limit) or len(window)
        pieces.append(window[:end])
        start += end
    if start < len(text):
        pieces.append(text[start:])
    return pieces


def _after(text: str, border: str, limit: int) -> int:
    """The place after the first border at or beyond `limit`, or 0."""
    found = text.find(border, limit - 1)
    return found + len(border) if found >= 0 else 0
