"""A workspace with a tiny corpus and a tiny trained model, made once through the command line itself."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from bloomery.cli.main import main

TINY = [
    *("--set", "tokenizer.vocab_size=300"),
    *("--set", "pretrain.steps=4"),
    *("--set", "pretrain.hidden_size=64"),
    *("--set", "pretrain.num_hidden_layers=1"),
    *("--set", "pretrain.context_length=32"),
    *("--set", "pretrain.batch_rows=4"),
    *("--set", "pretrain.precision=float32"),
    *("--set", "pretrain.device=cpu"),
]


class Answer(NamedTuple):
    """What one call of the command printed and returned."""

    code: int
    out: str
    err: str


class Tiny(NamedTuple):
    """Its workspace, the texts of its corpus, and the options that made its model."""

    home: Path
    texts: Path
    sizes: list[str]

    def copy(self, target: Path) -> Path:
        """A workspace like it. The ledger goes through SQLite: a file that this process opens and closes itself loses
        the locks of its connections (POSIX), and another process then takes away the log that they write to."""
        shutil.copytree(self.home, target, ignore=shutil.ignore_patterns("ledger.sqlite*"))
        source, made = (sqlite3.connect(home / "ledger.sqlite") for home in (self.home, target))
        with closing(source), closing(made):
            source.backup(made)
        return target


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("cli")
    texts = folder / "texts"
    texts.mkdir()
    rng = random.Random(0)
    words = [f"term{n}" for n in range(80)]
    for n in range(80):
        (texts / f"{n:02}.txt").write_text(" ".join(rng.choice(words) for _ in range(rng.randrange(30, 120))))
    home = folder / "home"
    # Words are drawn at random, so long runs are not shared; but the corpus is tiny: keep what there is.
    assert main(["curate", str(texts), "--home", str(home), "--quiet", "--set", "curate.test_fraction=0.1"]) == 0
    assert main(["pretrain", "--home", str(home), "--quiet", *TINY]) == 0
    return Tiny(home, texts, TINY)


class Call:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Answer:
        self._capsys.readouterr()
        code = main(list(arguments))
        captured = self._capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    def mistake(self, *arguments: str) -> str:
        """The one error line of a call that has to end with exit code 2."""
        return self.error_line(self(*arguments))

    def error_line(self, answer: Answer) -> str:
        assert answer.code == 2, answer
        lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, answer.err
        assert "Traceback" not in answer.err
        return lines[0]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(capsys)
