"""Code files: this project's own are code; what is not text, or in another encoding, has its reason."""

from __future__ import annotations

from pathlib import Path

from bloomery.corpus.code_files import read_code
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.problems import Problems

PROJECT = Path(__file__).resolve().parents[3]


def _read(path: Path, config: CurateConfig | None = None):
    drops: list[str] = []
    problems = Problems(dropped=lambda reason, *_: drops.append(reason))
    return list(read_code(path, config or CurateConfig(), problems, {"path": path.name})), drops, problems


def test_our_own_files_are_code():
    for path in sorted((PROJECT / "src" / "bloomery" / "corpus").glob("*.py")):
        documents, drops, _ = _read(path)
        assert drops == [], path
        assert documents[0].text == path.read_text(encoding="utf-8")
        assert documents[0].metadata["language"] == "Python"


def test_what_cannot_be_read_has_its_reason(tmp_path: Path):
    (tmp_path / "latin.py").write_bytes("# déjà vu à l'été\n".encode("latin-1") * 9)
    (tmp_path / "large.py").write_bytes(b"x = 1\n" * 1000)
    (tmp_path / "zeros.py").write_bytes(b"\0\0")
    config = CurateConfig(max_document_bytes=1024)
    assert _read(tmp_path / "latin.py")[1] == ["other_encoding"]
    assert _read(tmp_path / "large.py", config)[1] == ["too_large"]
    assert _read(tmp_path / "zeros.py")[1] == ["binary"]
    assert _read(tmp_path / "none.py")[1] == ["unreadable"]
