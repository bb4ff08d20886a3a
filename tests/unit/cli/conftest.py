"""A workspace with a tiny corpus and a tiny trained model, made once through the command line itself."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class SpamHome(NamedTuple):
    """A workspace with a corpus of messages whose metadata (kind) says what they are, and a file of rules."""

    home: Path
    rules: Path


_RULES = """
name = "spam"
kind = "choice"
instruction = "Is this spam?"
labels = ["ham", "spam"]
[[function]]
name = "prizes"
label = "spam"
keywords = ["prize", "free"]
[[function]]
name = "numbers"
label = "spam"
regex = '[0-9]{5}'
[[function]]
name = "people"
label = "ham"
keywords = ["you", "home"]
"""


@pytest.fixture(scope="session")
def spam_home(tmp_path_factory: pytest.TempPathFactory) -> SpamHome:
    folder = tmp_path_factory.mktemp("annotate")
    rng = random.Random(0)
    chances = {"prize": (0.02, 0.6), "free": (0.02, 0.5), "12345": (0.01, 0.6), "you": (0.7, 0.2), "home": (0.6, 0.05)}
    with (folder / "messages.tsv").open("w") as stream:
        stream.write("kind\ttext\n")
        for number in range(200):
            gold = int(rng.random() < 0.3)
            words = [word for word, chance in chances.items() if rng.random() < chance[gold]]
            words += [f"w{rng.randrange(1000)}" for _ in range(6)] + [f"n{number}"]
            stream.write(f"{('ham', 'spam')[gold]}\t{' '.join(words)}\n")
    (folder / "rules.toml").write_text(_RULES)
    command = ["curate", str(folder / "messages.tsv"), "--home", str(folder / "home"), "--quiet", "--workers", "1"]
    command += ["--set", 'curate.metadata_fields=["kind"]', "--set", "curate.test_fraction=0.2"]
    assert main(command) == 0
    return SpamHome(folder / "home", folder / "rules.toml")


@pytest.fixture(scope="session")
def chat_endpoint() -> Iterator[str]:
    """An endpoint that says "spam" of what holds "prize", in whichever form it is asked, and counts tokens by words."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked = body["messages"][-1]["content"]
            said = "spam" if "prize" in asked else "ham"
            if "response_format" in body:
                said = json.dumps({"answer": said})
            if "Write" in asked:
                said = f"A text of its own with the number {body['seed']} and {body['seed']} words"
            delta = {"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]}
            usage = {"choices": [], "usage": {"prompt_tokens": len(asked.split()), "completion_tokens": 2}}
            self.send_response(200)
            self.send_header("connection", "close")
            self.end_headers()
            for one in (json.dumps(delta), json.dumps(usage), "[DONE]"):
                self.wfile.write(f"data: {one}\n\n".encode())

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()
