"""Documents of folders and JSON lines, in order, with a digest over all of them."""

from __future__ import annotations

import json

import pytest

from bloomery.adapt.comparison.documents import documents_digest, read_documents
from bloomery.core.errors import DataError


def test_folders_and_lines(tmp_path):
    (tmp_path / "b.md").write_text("# B", encoding="utf-8")
    (tmp_path / "a.txt").write_text("A", encoding="utf-8")
    (tmp_path / "empty.txt").write_text(" ", encoding="utf-8")
    (tmp_path / "c.png").write_bytes(b"x")
    rows = [{"id": 7, "title": "T", "text": "C"}, {"text": "D"}]
    (tmp_path / "z.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = [(one.id, one.text) for one in read_documents(str(tmp_path))]
    assert found == [("a.txt", "A"), ("b.md", "# B"), ("7", "T\n\nC"), ("z.jsonl:2", "D")]
    before = documents_digest(str(tmp_path))
    (tmp_path / "a.txt").write_text("A2", encoding="utf-8")
    assert documents_digest(str(tmp_path)) != before and documents_digest("") == ""
    assert [one.text for one in read_documents(str(tmp_path / "a.txt"))] == ["A2"]
    (tmp_path / "of.md").mkdir()  # a folder may be called so
    before = documents_digest(str(tmp_path))
    (tmp_path / "a.txt").rename(tmp_path / "of.md" / "a.txt")  # which document is called otherwise now
    assert documents_digest(str(tmp_path)) != before and "of.md/a.txt" in [o.id for o in read_documents(str(tmp_path))]
    (tmp_path / "z.jsonl").write_bytes(b'{"text": "\xff"}')
    assert [one.text for one in read_documents(str(tmp_path / "z.jsonl"))] == ["\ufffd"]


def test_what_is_none(tmp_path):
    for source in (tmp_path, tmp_path / "gone"):
        with pytest.raises(DataError, match="no documents"):
            documents_digest(str(source))
    for line in ("{", "[]", '{"text": 3}'):
        (tmp_path / "x.jsonl").write_text(line, encoding="utf-8")
        with pytest.raises(DataError, match=r"x\.jsonl:1"):
            list(read_documents(str(tmp_path)))
