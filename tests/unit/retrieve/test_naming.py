"""Which document a text is, and what makes it another text."""

from __future__ import annotations

import pytest

from bloomery.core.errors import DataError
from bloomery.corpus.document import Document
from bloomery.retrieve.naming import document_id, text_digest, title_of


def test_names():
    assert document_id(Document.of("x", "a.txt"), "") == "a.txt"
    lines = [Document.of("x", "a.jsonl", {"line": n}) for n in (1, 2)]
    assert document_id(lines[0], "") == document_id(lines[1], "") == f"a.jsonl#{lines[0].id}"
    assert document_id(Document.of("x", "a", {"_id": 7, "line": 1}), "_id") == "7"
    assert document_id(Document.of("x", "a", {"_id": "b", "part": 2}), "_id") == "b#2"
    with pytest.raises(DataError, match="without '_id'"):
        document_id(Document.of("x", "a"), "_id")


def test_titles_and_digests():
    document = Document.of("x", "a", {"title": " Iron\n ore "})
    assert title_of(document, "title") == "Iron ore" and title_of(document, "") == "" == title_of(document, "other")
    assert text_digest(document, "a") != text_digest(document, "b")
