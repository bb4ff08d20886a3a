"""SIGKILLs at random instants of a training run: the resumed run ends with the weights of an uninterrupted one.

    python benchmarks/kill_train.py [--kills 200] [--plant spike] [--steps 48]

A small model is trained on made-up text; a checkpoint is written every few steps. With `--plant` (spike, nan, both or
nothing) batches are spoilt by their place in the data, so that the run goes back and past them, and is killed while it
does. A run is killed at an instant drawn from the time that the straight run took, and started again until it ends, by
itself after `--each` kills; then a new one begins, until there have been so many kills. Processes are forked from one
that has imported everything, so a kill costs no start. Checked each time a run has ended: the artifact's id, which is
the hash of its weights, what was skipped, that every run in the ledger has ended, that scratch is empty after `runs gc`
(a kill while a finished run clears its scratch leaves some). Prints what was found and returns 1 at the first
difference. Several ranks are another program's business.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from bloomery.cli import runs
from bloomery.cli.options import Common
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import PretrainConfig, causal, pretrain

_PLANTS = {"nothing": {}, "spike": {22: 60.0}, "nan": {22: math.nan}, "both": {22: 60.0, 45: math.nan}}


def prepare(home: Path) -> tuple[str, str, str]:
    """Corpus, tokenizer and tokens of text in which each word decides which may follow."""
    folder = home / "texts"
    folder.mkdir(parents=True)
    rng = random.Random(0)
    words = [f"w{n:02}" for n in range(60)]
    for n in range(120):
        word, text = rng.choice(words), []
        for _ in range(rng.randrange(20, 160)):
            text.append(word)
            word = words[(words.index(word) * 7 + rng.randrange(3)) % len(words)]
        (folder / f"{n:03}.txt").write_text(" ".join(text))
    workspace = Workspace(home)
    config = CurateConfig(sources=(str(folder),), validation_fraction=0.1, decontaminate_words=0)
    corpus = curate(config=config, workspace=workspace)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=320), workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    workspace.ledger.close()
    return corpus.id, tokenizer.id, tokens.id


def plant(factors: dict[int, float], rows: int) -> None:
    """Spoil the loss of the batches of these numbers, by the rows that were read before them."""
    read, real = causal.CausalObjective.next_batch, causal.CausalObjective.loss
    spoilt: dict[bytes, float] = {}

    def next_batch(self: causal.CausalObjective, count: int) -> object:
        number = int(self.rows.state_dict()["counts"]["rows"]) // rows + 1
        batch = read(self, count)
        if number in factors:
            spoilt[np.ascontiguousarray(batch.arrays["input_ids"]).tobytes()] = factors[number]
        return batch

    def loss(self: causal.CausalObjective, arrays: dict[str, torch.Tensor]) -> torch.Tensor:
        return real(self, arrays) * spoilt.get(arrays["input_ids"].numpy().tobytes(), 1.0)

    causal.CausalObjective.next_batch = next_batch  # type: ignore[assignment]
    causal.CausalObjective.loss = loss  # type: ignore[assignment]


def train(home: Path, names: tuple[str, str, str], config: PretrainConfig) -> None:
    """One run to its end, or until it is killed."""
    workspace = Workspace(home)
    corpus, tokenizer, tokens = (workspace.find(name) for name in names)
    pretrain(corpus, tokenizer, tokens=tokens, config=config, workspace=workspace, preflight=False)
    workspace.ledger.close()


def start(home: Path, names: tuple[str, str, str], config: PretrainConfig) -> int:
    """Fork a process that trains; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        train(home, names, config)
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def state(home: Path) -> tuple[str, str, str]:
    """(artifact id, what was skipped, what should not be there)."""
    workspace = Workspace(home)
    with contextlib.redirect_stdout(io.StringIO()):
        runs.gc(common=Common(home=home))
    try:
        model = workspace.latest("model")
        wrong = [run["id"] for run in workspace.ledger.unfinished()]
        wrong += [str(path) for path in workspace.scratch.glob("pretrain-*/")]
        attempts = workspace.ledger.runs(stage="pretrain", limit=10_000)
        if [a["state"] for a in attempts].count("finished") != 1:
            wrong.append("not exactly one attempt finished")
        return model.id, repr(model.metrics["skipped"]), ", ".join(wrong)
    finally:
        workspace.ledger.close()


def copy(template: Path, home: Path) -> Path:
    import shutil

    shutil.copytree(template, home)
    return home


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=10, help="kills of one run at most, before it is let end")
    parser.add_argument("--plant", choices=sorted(_PLANTS), default="both")
    parser.add_argument("--steps", type=int, default=48)
    given = parser.parse_args()
    torch.set_num_threads(1)  # before any fork: a child has no threads of its parent
    config = PretrainConfig(
        steps=given.steps,
        hidden_size=32,
        num_hidden_layers=1,
        context_length=32,
        batch_rows=2,
        precision="float32",
        compile="off",
        device="cpu",
        validations=2,
        checkpoint_every_steps=6,
    )
    plant(_PLANTS[given.plant], config.batch_rows)
    with tempfile.TemporaryDirectory() as root:
        return _kills(Path(root), given, config)


def _kills(root: Path, given: argparse.Namespace, config: PretrainConfig) -> int:
    template = root / "template"
    names = prepare(template)
    straight = copy(template, root / "straight")
    began = time.monotonic()
    _, status = os.waitpid(start(straight, names, config), 0)
    lasted = time.monotonic() - began
    if status:
        return 1
    expected = state(straight)
    print(f"straight: {lasted:.1f} s, {expected[0][:12]}, skipped {expected[1]}", flush=True)
    if expected[2]:
        print("left over:", expected[2])
        return 1
    rng = random.Random(given.kills)
    kills, of_this, ended, home = 0, 0, 0, copy(template, root / "killed-0")
    while kills < given.kills or of_this:
        pid = start(home, names, config)
        if kills < given.kills and of_this < given.each:
            time.sleep(rng.uniform(0, lasted))
            os.kill(pid, signal.SIGKILL)  # a process that has ended and was not waited for can still be sent it
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            kills, of_this = kills + 1, of_this + 1
            if kills % 20 == 0:
                print(f"{kills} kills, {ended} runs ended", flush=True)
            continue
        found = None if status else state(home)
        if found != expected:
            print(f"different after {kills} kills: exit {status}, {found}")
            return 1
        ended, of_this = ended + 1, 0
        home = copy(template, root / f"killed-{ended}")
    print(f"{kills} kills, all equal: {ended} runs ended with the weights of the straight one, skipping the same data")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
