"""Naming: which document of an index a text is, so that a later run knows it again; and what makes it another text.

A document is called by a field of its own where one is named, by its source where that holds one text, and by source
and content where it holds several: a line that moves within its file stays the same document. This module does not
know indexes.
"""

from __future__ import annotations

import hashlib
from typing import Any

from bloomery.core.errors import DataError
from bloomery.corpus.document import Document
from bloomery.retrieve.cutting.cut import with_title

_ONE_OF_SEVERAL = ("line", "row", "part", "offset")
"""What readers tell of a text whose source holds others."""
_PARTS = ("part",)
_VERSION = 1
"""Raised when documents are to be cut anew, for they are cut otherwise."""


def document_id(document: Document, id_field: str) -> str:
    """What the index calls a document. DataError where the field that names documents is missing."""
    if id_field:
        value = document.metadata.get(id_field)
        if not isinstance(value, str | int) or value == "":
            raise DataError(
                f"{document.source}: a document without {id_field!r}", hint="--id-field names what all have"
            )
        parts = [str(document.metadata[name]) for name in _PARTS if name in document.metadata]
        return "#".join([str(value), *parts])
    if any(name in document.metadata for name in _ONE_OF_SEVERAL):
        return f"{document.source}#{document.id}"
    return document.source


def title_of(document: Document, title_field: str) -> str:
    """The document's title, on one line; "" without one."""
    value: Any = document.metadata.get(title_field) if title_field else None
    return " ".join(value.split())[:300] if isinstance(value, str) else ""


def text_digest(document: Document, title: str) -> bytes:
    """32 bytes of all that its chunks depend on, beside the index's config."""
    told = f"{_VERSION}\0{title}\0{document.metadata.get('language', '')}\0{document.text}"
    return hashlib.sha256(told.encode("utf-8", "replace")).digest()


__all__ = ["document_id", "text_digest", "title_of", "with_title"]
