"""Scores: rows of documents and lines, group by group."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloomery.core.artifact import publish
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.quantity import Quantity
from bloomery.corpus import scores as module
from bloomery.corpus.document import Document
from bloomery.corpus.judge import Judge
from bloomery.corpus.profiles import PROFILES
from bloomery.corpus.scores import SCORES_FILE, ScoreColumns, ScoreWriter, excerpt_of, read_scores, site_of

RULES = [rule for rule in PROFILES["c4-paper"] if rule.reads != "given"]
TEXTS = [f"Line one of text {n} is good. It has two.\nshort\n" * (n % 3 + 1) for n in range(10)]


def _published(folder: Path, home: Path):
    return publish(
        folder,
        home,
        kind="corpus",
        parents=(),
        config={},
        provenance={"seconds": 0.0},
        metrics={},
        energy_joules=Quantity.unknown(),
    )


def _write(folder: Path) -> None:
    folder.mkdir()
    writer, judge, columns = ScoreWriter(folder, RULES), Judge(RULES), ScoreColumns(RULES)
    for text in TEXTS:
        original, verdict = Document.of(text, "s"), judge.judge(text)
        after = Document.of(verdict.text, "s")
        about = {"language": ("en", 0.9), "url": "https://www.a.org/x", "excerpt": excerpt_of(text)}
        writer.add(columns.row(after, verdict, original=original, **about), columns.lines(verdict))
    writer.close()


def test_groups_of_lines_belong_to_groups_of_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_GROUP_DOCUMENTS", 4)
    _write(tmp_path / "f")
    groups = list(read_scores(_published(tmp_path / "f", tmp_path)))
    assert [documents.num_rows for documents, _ in groups] == [4, 4, 2]
    owners = [sorted(set(lines.column("document").to_pylist())) for _, lines in groups]
    assert owners == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    row = groups[0][0].to_pylist()[1]
    assert row["site"] == "a.org" and row["c4_line_words.lines"] == 0 and row["c4_terminal.lines"] == 2
    assert row["c4_sentences"] == 4 and row["rule"] == "c4_sentences" and row["excerpt"].startswith("Line one")
    assert row["text_bytes"] == row["characters"] < row["original_characters"]


def test_equal_documents_give_equal_bytes(tmp_path: Path):
    _write(tmp_path / "a")
    _write(tmp_path / "b")
    assert (tmp_path / "a" / SCORES_FILE).read_bytes() == (tmp_path / "b" / SCORES_FILE).read_bytes()


def test_a_corpus_without_scores_and_damaged_ones(tmp_path: Path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").write_text("")
    with pytest.raises(ConfigError, match="no scores"):
        next(read_scores(_published(tmp_path / "f", tmp_path)))
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / SCORES_FILE).write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot read the scores"):
        next(read_scores(_published(tmp_path / "g", tmp_path)))


def test_sites():
    assert [site_of(u) for u in ("http://www.a.org:80/x", "no url", None, "http://[", "https://B.c")] == [
        "a.org",
        "",
        "",
        "",
        "b.c",
    ]
