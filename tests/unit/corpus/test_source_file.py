"""SourceFile: what a source says about a file goes into every document of it."""

from __future__ import annotations

from pathlib import Path

from bloomery.corpus.config import CurateConfig
from bloomery.corpus.problems import Problems
from bloomery.corpus.source_file import SourceFile
from bloomery.corpus.sources import read_sources


def test_a_file_has_no_format_and_no_metadata_of_its_own():
    assert SourceFile(Path("a.txt"), named=True) == SourceFile(Path("a.txt"), True, "", {})


def test_its_metadata_is_in_every_document(tmp_path: Path):
    (tmp_path / "train.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    documents = list(read_sources(CurateConfig(sources=(f"hf:{tmp_path}",)), Problems()))
    assert [document.metadata for document in documents] == [{"split": "train", "line": n} for n in (1, 2)]
