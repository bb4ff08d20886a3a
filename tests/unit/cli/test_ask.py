"""`bloomery ask`: answers with citations on stdout, as text and as JSON; mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli.main import MISTAKE, main


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    text = "The furnace was lit in 1874.\n\nIts bloom weighed 41 kilograms \x1b[31m and more.\n"
    (folder / "a.txt").write_text(text)
    options = ["--home", str(folder / "home"), "--quiet"]
    assert main(["index", str(folder / "a.txt"), "--into", str(folder / "idx"), *options]) == 0
    return folder


def asked(home: Path, *arguments: str) -> int:
    return main(["ask", str(home / "idx"), *arguments, "--home", str(home / "home")])


def test_citations_are_shown(home, capsys):
    capsys.readouterr()
    assert asked(home, "How many kilograms did the bloom weigh?") == 0
    told = capsys.readouterr()
    assert "41 kilograms" in told.out and "a.txt [30:" in told.out and "\x1b" not in told.out
    assert "passages" in told.err


def test_json(home, capsys):
    capsys.readouterr()
    assert asked(home, "How many kilograms did the bloom weigh?", "--json", "--k", "3", "--strict") == 0
    told = json.loads(capsys.readouterr().out)
    (one,) = told["statements"][0]["citations"]
    text = (home / "a.txt").read_text()
    assert told["found"] and told["supported"] and text[one["start"] : one["end"]] == one["quote"]


def test_not_in_the_documents(home, capsys):
    capsys.readouterr()
    assert asked(home, "Quarks?") == 0
    told = capsys.readouterr()
    assert told.out.startswith("Not in the documents.") and "by the search" in told.err


def test_mistakes(home, capsys):
    for arguments in (["", "--json"], ["x", "--rerank", "model"], ["x", "--gate", "none.json"], ["x", "--budget", "3"]):
        assert asked(home, *arguments) == MISTAKE
        assert capsys.readouterr().err.count("\n") == 1
