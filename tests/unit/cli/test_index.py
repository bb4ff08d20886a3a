"""`bloomery index` on real files: made, searched, shown, changed, compacted, taken away; and what is a mistake."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from bloomery.cli.index import report_lines
from bloomery.cli.main import main
from bloomery.retrieve import IndexConfig, IndexReport
from bloomery.retrieve import index as build

hashed_words = runpy.run_path(str(Path(__file__).parents[1] / "retrieve" / "conftest.py"))["HashedWords"]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "iron.md").write_text("# Iron\n\nSmelted from ore with charcoal.\n\n## Bars\n\nForged from the bloom.\n")
    (folder / "rain.md").write_text("# Rain\n\nFalls on the sea.\n")
    return folder


def asked(capsys, home: Path, *words: object) -> tuple[int, str, str]:
    code = main(["index", *map(str, words), "--home", str(home), "--quiet"])
    out, err = capsys.readouterr()
    return code, out, err


def test_from_files_to_hits(tmp_path, docs, capsys):
    code, out, _ = asked(capsys, tmp_path, docs, "--into", "docs", "--size", 50)
    assert code == 0 and "2 added" in out and "3 chunks" in out
    code, out, _ = asked(capsys, tmp_path, docs, "--into", "docs", "--json")
    assert json.loads(out)["unchanged"] == 2
    code, out, err = asked(capsys, tmp_path, docs, "--into", "docs", "--size", 60)
    assert code == 2 and "another cut" in err and "--fresh" in err
    code, out, _ = asked(capsys, tmp_path, docs, "--into", "docs", "--size", 60, "--fresh")
    assert code == 0 and "2 added" in out


def test_lines_of_a_report():
    report = IndexReport(index="x", added=1, described=2, problems={"broken_line": 3})
    assert "2 with other metadata" in report_lines(report)[0] and report_lines(report)[-1] == "  3 broken line"


def test_mistakes(tmp_path, docs, capsys):
    for words, said in (
        ((docs / "absent", "--into", "x"), "no such file"),
        ((docs, "--into", "a b"), "no name of an index"),
        ((docs, "--into", "x", "--overlap", 150), "at most half"),
        ((docs, "--into", "x", "--embedder-model", "m"), "endpoint"),
        (("search", "absent", "iron"), "no index"),
    ):
        code, _, err = asked(capsys, tmp_path, *words)
        assert code == 2 and said in err and err.count("\n") == 1


def test_vectors_are_not_dropped_in_silence(tmp_path, docs, capsys):
    made = hashed_words()
    build(docs, into="x", config=IndexConfig(embedder="minilm"), embedder=made, workspace=tmp_path)
    command = ["index", str(docs), "--into", "x", "--cut", "sentences", "--fresh", "--home", str(tmp_path)]
    capsys.readouterr()
    assert main(command) == 0
    assert "note: x was with --embedder minilm; made anew without one" in capsys.readouterr().err
    assert main(command) == 0
    assert "note:" not in capsys.readouterr().err
