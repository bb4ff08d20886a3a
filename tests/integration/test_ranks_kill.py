"""SIGKILL of either of two ranks, and one that stands still: the run goes on to the bits of a straight one.

BLOOMERY_KILLS sets how many times one of both is killed at a random instant (1 in the ordinary suite).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.errors import TrainingError
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import ParallelConfig, PretrainConfig, pretrain
from bloomery.training.loop import Loop

KILLS = int(os.environ.get("BLOOMERY_KILLS", "1"))
STEPS = 40
CONFIG = PretrainConfig(
    steps=STEPS,
    hidden_size=64,
    num_hidden_layers=2,
    context_length=32,
    batch_rows=8,
    micro_rows=2,
    precision="float32",
    checkpoint_every_steps=3,
    validations=3,
    device="cpu",
)
_TRAIN = """
import sys
from bloomery.core.workspace import Workspace
from bloomery.training import ParallelConfig, PretrainConfig, loop, pretrain
home, corpus, tokenizer, tokens = sys.argv[1:]
taken = loop.Loop._step
def step(self):
    taken(self)
    print(self.progress.step, flush=True)
loop.Loop._step = step
ws = Workspace(home)
pretrain(ws.find(corpus), ws.find(tokenizer), tokens=ws.find(tokens), workspace=ws, parallel=ParallelConfig(ranks=2),
         config=PretrainConfig(**eval(sys.stdin.readline())))
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A workspace with corpus, tokenizer and tokens, and their names."""
    folder = tmp_path_factory.mktemp("ranks")
    text = folder / "text"
    text.mkdir()
    rng = random.Random(0)
    words = [f"word{n}" for n in range(200)]
    for n in range(60):
        (text / f"{n:03}.txt").write_text(" ".join(rng.choice(words) for _ in range(rng.randrange(20, 300))))
    workspace = Workspace(folder / "home")
    corpus = curate([str(text)], config=CurateConfig(decontaminate_words=0), workspace=workspace)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=300), workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    workspace.ledger.close()
    return folder / "home", [corpus.id, tokenizer.id, tokens.id]


def _train(home: Path, names: list[str], **parallel: float) -> Artifact:
    workspace = Workspace(home)
    corpus, tokenizer, tokens = (workspace.find(name) for name in names)
    return pretrain(
        corpus,
        tokenizer,
        tokens=tokens,
        config=CONFIG,
        parallel=ParallelConfig(ranks=2, **parallel),
        workspace=workspace,
    )


def _follower(of: int) -> psutil.Process:
    (child,) = psutil.Process(of).children()
    return child


def _at_step(monkeypatch: pytest.MonkeyPatch, number: int, what: signal.Signals) -> list[float]:
    """Send a signal to the follower as this process has taken a step; the moment, once it is sent."""
    step, sent = Loop._step, []

    def signalling(self: Loop) -> None:
        step(self)
        if self.progress.step == number and not sent:
            _follower(os.getpid()).send_signal(what)
            sent.append(time.monotonic())

    monkeypatch.setattr(Loop, "_step", signalling)
    return sent


@pytest.mark.timeout(3600)
def test_ranks_that_die_or_stall(prepared: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    template, names = prepared
    for name in ("straight", "killed"):
        shutil.copytree(template, tmp_path / name)
    expected, home = _train(tmp_path / "straight", names).id, tmp_path / "killed"

    with monkeypatch.context() as patch, pytest.raises(TrainingError) as caught:
        sent = _at_step(patch, 8, signal.SIGKILL)
        _train(home, names)
    assert time.monotonic() - sent[0] < 10
    assert caught.value.message == "rank 1 has ended: killed by SIGKILL"
    assert "run the same command again" in caught.value.hint

    with monkeypatch.context() as patch, pytest.raises(TrainingError) as caught:
        _at_step(patch, 14, signal.SIGSTOP)
        _train(home, names, stall_seconds=3.0)
    assert caught.value.message.startswith("rank 1 has ")
    assert "its last step was 1" in caught.value.message

    rng = random.Random(KILLS)
    for number in range(KILLS):
        _kill(home, names, leader=rng.random() < 0.5 or not number, after=rng.randrange(18, STEPS - 4))
        if KILLS > 1 and Workspace(home).ledger.artifacts(kind="model"):
            assert _train(home, names).id == expected
            shutil.rmtree(home)
            shutil.copytree(template, home)
    made = _train(home, names)
    assert made.id == expected
    assert not psutil.Process().children()


def _kill(home: Path, names: list[str], *, leader: bool, after: int) -> None:
    """Start two ranks and kill one once `after` steps are taken: the other ends within seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, str(home), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    settings = {name: value for name, value in vars(CONFIG).items() if name != "optimizer"}
    process.stdin.write(f"{settings}\n")
    process.stdin.flush()
    for line in process.stdout:
        if int(line) >= after:
            break
    follower = _follower(process.pid)
    (process if leader else follower).send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    follower.wait(10)
    assert process.returncode


def test_no_thread_is_left():
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("watchdog")]
