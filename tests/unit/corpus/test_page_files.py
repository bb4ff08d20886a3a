"""Page files: one document, or one reason with the file's name."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.page_files import read_page
from bloomery.corpus.problems import Problems
from bloomery.corpus.streams import BrokenStream

PAGE = b"<html><title>T</title><main><p>" + b"Some words stand here. " * 9


def _read(path: Path, **config):
    drops: list[tuple[str, str]] = []
    problems = Problems(dropped=lambda reason, where, _: drops.append((reason, where)))
    return list(read_page(path, CurateConfig(**config), problems)), drops


def test_a_page_is_a_document(tmp_path: Path):
    (tmp_path / "a.html").write_bytes(PAGE)
    (tmp_path / "a.htm.gz").write_bytes(gzip.compress(PAGE))
    for name in ("a.html", "a.htm.gz"):
        documents, drops = _read(tmp_path / name)
        assert documents[0].source == str(tmp_path / name)
        assert documents[0].metadata == {"title": "T"}
        assert drops == []


def test_what_gives_no_document_has_its_reason(tmp_path: Path):
    cases = {
        "large.html": (PAGE * 20, "document_too_large"),
        "empty.html": (b"<html></html>", "no_text"),
        "broken.pdf": (b"%PDF-", "damaged_pdf"),
        "no.pdf": (b"words", "content_type"),
        "short.html.gz": (gzip.compress(PAGE)[:30], "truncated"),
    }
    for name, (data, reason) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert _read(tmp_path / name, max_document_bytes=2048) == ([], [(reason, str(tmp_path / name))])
    with pytest.raises(BrokenStream):
        _read(tmp_path / "none.html")
