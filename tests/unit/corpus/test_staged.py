"""Documents that wait: they come back as they went, by number too."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.corpus import staged as module
from bloomery.corpus.document import Document
from bloomery.corpus.staged import StagedDocuments


def test_documents_come_back_in_order_and_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "SHARD_BYTES", 10)
    documents = [Document.of(f"text {n}", f"s{n}", {"line": n}) for n in range(7)]
    for _ in range(2):  # what an earlier attempt left is forgotten
        staged = StagedDocuments(tmp_path / "staged")
        assert list(staged.stage(iter(documents))) == documents
    assert staged.counts == [2, 2, 2, 1] and staged.starts == [0, 2, 4, 6, 7]
    assert [staged.id_of(n) for n in range(7)] == [d.id for d in documents]
    assert list(staged.read()) == documents
    assert not list(staged.folder.glob("shard*"))
    staged.close()
    assert not staged.folder.exists()


def test_none_are_none(tmp_path: Path):
    staged = StagedDocuments(tmp_path / "staged")
    assert list(staged.stage([])) == list(staged.read()) == staged.counts == [] and staged.starts == [0]
