"""`bloomery ask`: answers with citations on stdout, as text and as JSON; mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli.ask import _show, _streamed
from bloomery.cli.main import MISTAKE, main
from bloomery.cli.options import Common
from bloomery.core.messages import ChatDelta
from bloomery.retrieve import Index
from bloomery.retrieve.answers import Answering


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


class _Says:
    name = "scripted"

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces

    def stream(self, messages, options):
        yield from (ChatDelta(text=one) for one in self.pieces)
        yield ChatDelta(finish_reason="stop")


@pytest.mark.parametrize(
    ("pieces", "begins"),
    [
        (("Whales ", "sing."), "! the model's answer cites nothing: not supported by the documents\nWhales sing.\n"),
        (("Whales [77] ", "sing."), "Whales [77] sing.\n! the model's answer cites nothing"),
        (("The bloom weighed 41 ", "kilograms [1]."), "The bloom weighed 41 kilograms [1].\n\n  The bloom"),
    ],
)
def test_what_cites_nothing_is_said_once_with_a_warning(home, capsys, pieces, begins):
    with Index(home / "idx") as index:
        answering = Answering(index, _Says(*pieces))  # type: ignore[arg-type]
        capsys.readouterr()
        _show(_streamed(answering, "How many kilograms did the bloom weigh?", {}), Common())
    out = capsys.readouterr().out
    assert out.startswith(begins) and out.count("sing.") <= 1
    assert ("nearest passage: " in out) == ("!" in begins)


def test_a_field_that_no_document_has_is_a_mistake(home, capsys):
    assert asked(home, "kilograms?", "--filter", "yaer=1") == MISTAKE
    told = capsys.readouterr()
    assert "no document has a field 'yaer'" in told.err and "document, source" in told.err and told.err.count("\n") == 1
    assert asked(home, "kilograms?", "--filter", "source=other.txt") == 0


def test_sentences_are_called_the_nearest(home, capsys):
    capsys.readouterr()
    assert asked(home, "How many kilograms did the bloom weigh in 1850?") == 0
    assert "may not answer the question; no passage that was found has 1850" in capsys.readouterr().err
