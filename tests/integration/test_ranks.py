"""Two and four processes learn what one does; killed or stopped, they go on, as many as before or another number.

The processes are real, over gloo. Losses of equal steps may differ by float32 rounding, in other orders of addition,
which Muon's normalisation amplifies a little over these steps: 5e-5 nats of about 4. The same number of ranks ends with
the same bits, whatever was killed. BLOOMERY_KILLS sets how many times one of two ranks is killed at a random step (1 in
the ordinary suite); above 1, one that stands still is looked for, too.
"""

from __future__ import annotations

import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ArtifactError, TrainingError
from bloomery.core.workspace import Workspace
from bloomery.training import ParallelConfig, PretrainConfig, TrainConfig, checkpoint, pretrain, room, train
from bloomery.training.building import NetConfig
from bloomery.training.causal import CausalObjective
from bloomery.training.fit import FitConfig
from bloomery.training.loop import Loop
from bloomery.training.parallel.world import open_world

_PREPARE = runpy.run_path(str(Path(__file__).parents[1] / "prepared_workspace.py"))["prepare"]
KILLS = int(os.environ.get("BLOOMERY_KILLS", "1"))
ROUNDING_NATS = 5e-5
STEPS, KILLED_AT = 20, 8
CONFIG = PretrainConfig(
    steps=STEPS,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    context_length=32,
    batch_rows=8,
    precision="float32",
    checkpoint_every_steps=3,
    validations=3,
    device="cpu",
    learning_rate_scale=1.0,
)
SHARDED = ParallelConfig(weights="sharded")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A workspace with corpus, tokenizer and tokens, and their names."""
    return _PREPARE(tmp_path_factory.mktemp("ranks"), documents=60)


@pytest.fixture(scope="module")
def saved_by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which one of two ranks was killed, once the first test has done it."""
    return tmp_path_factory.mktemp("two") / "home"


def _train(
    home: Path, names: list[str], parallel: ParallelConfig | None = None, *, preflight: bool = True, **changes: Any
) -> Artifact:
    workspace = Workspace(home)
    corpus, tokenizer, tokens = (workspace.find(name) for name in names)
    config = replace(CONFIG, **changes)
    given: dict[str, Any] = {"tokens": tokens, "config": config, "workspace": workspace}
    return pretrain(corpus, tokenizer, parallel=parallel, preflight=preflight, **given)


@pytest.fixture(scope="module")
def alone(prepared: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """What one process makes."""
    home = tmp_path_factory.mktemp("alone") / "home"
    shutil.copytree(prepared[0], home)
    return _train(home, prepared[1])


def _same(model: Artifact, other: Artifact) -> None:
    """The same data, and the same curves within rounding."""
    assert model.metrics["packing"] == other.metrics["packing"]
    curves = [[v for _, _, v in (*m.metrics["loss_curve"], *m.metrics["validation_curve"])] for m in (model, other)]
    assert curves[0] == pytest.approx(curves[1], abs=ROUNDING_NATS)


def _followers(of: int) -> list[psutil.Process]:
    """Other tests may have started children that stay, as multiprocessing's tracker does."""
    return [one for one in psutil.Process(of).children() if "bloomery.training.follower" in one.cmdline()]


def _follower(of: int) -> psutil.Process:
    (child,) = _followers(of)
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


@pytest.mark.timeout(600 + 30 * KILLS)
def test_two_ranks_and_their_deaths(
    prepared: tuple[Path, list[str]],
    alone: Artifact,
    saved_by_two: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    template, names = prepared
    two = ParallelConfig(ranks=2)
    for home in (tmp_path / "straight", saved_by_two):
        shutil.copytree(template, home)
    straight = _train(tmp_path / "straight", names, two)
    assert straight.metrics["ranks"] == 2 and "ranks" not in alone.metrics
    scored = [one.metrics["plan_score"]["seconds"]["error"] is not None for one in (alone, straight)]
    assert scored == [True, False]  # what one process takes was planned
    _same(straight, alone)

    with monkeypatch.context() as patch, pytest.raises(TrainingError) as caught:
        sent = _at_step(patch, KILLED_AT, signal.SIGKILL)
        _train(saved_by_two, names, two)
    assert time.monotonic() - sent[0] < 10
    assert caught.value.message == "rank 1 has ended: killed by SIGKILL"
    assert "run the same command again" in caught.value.hint

    for name in ("one", "killed"):
        shutil.copytree(saved_by_two, tmp_path / name)
    elastic = _train(tmp_path / "one", names)
    assert elastic.metrics["resumed"]
    _same(elastic, alone)

    home = tmp_path / "killed"
    if KILLS > 1:
        _stand_still(home, names, monkeypatch)
    rng = random.Random(KILLS)
    for number in range(KILLS):
        after, torchrun = rng.randrange(KILLED_AT + 1, KILLED_AT + 5), number % 2 == 0
        _kill(home, names, leader=rng.random() < 0.5 or not number, after=after, torchrun=torchrun)
        if KILLS > 1:  # the next one begins anew: it has steps left to be killed in
            assert _train(home, names, two).id == straight.id
            shutil.rmtree(home)
            shutil.copytree(template, home)
    assert _train(home, names, two).id == straight.id
    runs = Workspace(home).ledger.runs(stage="pretrain")
    assert [run["state"] for run in runs].count("finished") == 1  # followers record none
    assert not _followers(os.getpid())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("watchdog")]


def _stand_still(home: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(TrainingError) as caught:
        _at_step(patch, KILLED_AT + 2, signal.SIGSTOP)
        _train(home, names, ParallelConfig(ranks=2, stall_seconds=3.0))
    # Each rank tells its step every half second, in which all of these steps may pass: 0 is what it told before them.
    assert re.fullmatch(r"rank 1 has .* for \d+ s\b.*; its last step was (0|[6-9]|1\d)", caught.value.message)


def _kill(home: Path, names: list[str], *, leader: bool, after: int, torchrun: bool) -> None:
    """Start the command on two ranks and kill one once `after` steps are kept: the other ends within seconds."""
    settings = {name: value for name, value in vars(CONFIG).items() if value != getattr(PretrainConfig(), name)}
    told = [f"--set=pretrain.{name}={json.dumps(value)}" for name, value in settings.items()]
    verb = ["bloomery", "pretrain", names[0], "--home", str(home), "--quiet", "--set=tokenizer.vocab_size=300", *told]
    if torchrun:
        verb = ["torch.distributed.run", "--nproc-per-node=2", "-m", *verb]
    else:
        verb += ["--ranks", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", *verb],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while process.poll() is None and not any(_step(p) >= after for p in home.glob("scratch/*/checkpoints/step-*")):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    first = psutil.Process(process.pid)
    ranks = {int(child.environ()["RANK"]): child for child in first.children()}
    ranks.setdefault(0, first)
    ranks[0 if leader else 1].send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    psutil.wait_procs(list(ranks.values()), timeout=10)
    assert not any(rank.is_running() for rank in ranks.values())
    assert process.returncode
    if not leader and not torchrun:
        assert "run the same command again" in said and "Traceback" not in said


def _step(folder: Path) -> int:
    return int(folder.name.split("-")[1])


@pytest.mark.timeout(600)
def test_four_ranks(
    prepared: tuple[Path, list[str]],
    alone: Artifact,
    saved_by_two: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    template, names = prepared
    for name in ("sharded", "divided"):
        shutil.copytree(template, tmp_path / name)
    if not saved_by_two.exists():  # this test runs by itself
        shutil.copytree(template, saved_by_two)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            _interrupt(patch)
            _train(saved_by_two, names, ParallelConfig(ranks=2))
    with open_world(ParallelConfig(ranks=4)):
        elastic = _train(saved_by_two, names)
        assert elastic.metrics["resumed"] and elastic.metrics["ranks"] == 4
        _same(elastic, alone)
        with monkeypatch.context() as patch:
            _interrupt(patch)
            with pytest.raises(KeyboardInterrupt):
                _train(tmp_path / "sharded", names, replace(SHARDED, recompute=True))
            shutil.copytree(tmp_path / "sharded", tmp_path / "whole")
            with pytest.raises(KeyboardInterrupt):
                _train(tmp_path / "divided", names, replace(SHARDED, tensor_ranks=2))
        for name in ("sharded", "divided"):
            _written_by_all(tmp_path / name)
        sharded = _train(tmp_path / "sharded", names, SHARDED)
        _same(sharded, alone)
        # What was computed in halves goes on with four parts, and what was in parts as a whole, elsewhere.
        _same(_train(tmp_path / "divided", names, SHARDED), alone)
        shutil.copytree(template, tmp_path / "poisoned")
        with monkeypatch.context() as patch:
            _poison(patch)
            poisoned = _train(tmp_path / "poisoned", names, preflight=False)
        # All ranks went back, though one alone had seen the trouble, and left out the same data.
        assert [(one["step"], one["batches"] > 0) for one in poisoned.metrics["skipped"]] == [(10, True)]
        assert poisoned.metrics["validation_nats_per_token"] == pytest.approx(
            alone.metrics["validation_nats_per_token"], abs=0.1
        )
        shutil.copytree(template, tmp_path / "clipped")
        _clipped(Workspace(tmp_path / "clipped"), names, monkeypatch)
    _same(_train(tmp_path / "whole", names), alone)


def _written_by_all(home: Path) -> None:
    """Each of four ranks has written a part of parameters and optimiser state, and nothing twice. Not all a quarter:
    what tensor ranks have in common is written by the first, and matrices' state by those that step them."""
    folders = list(home.glob("scratch/pretrain-*/checkpoints/step-*"))
    assert folders
    for folder in folders:
        found = checkpoint.load(folder)
        assert found is not None
        for kind, whole in (("model", found.model), ("optimizer", found.optimizer)):
            sizes = [sum(t.nbytes for t in load_file(path).values()) for path in folder.glob(f"{kind}*.safetensors")]
            assert len(sizes) == 4 and min(sizes) > 0.1 * sum(sizes)
            assert sum(sizes) == sum(tensor.nbytes for tensor in whole.values())


@pytest.mark.timeout(600)
def test_preflight(prepared: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Several ranks find what one finds, and what is wrong on rank 0 alone ends all of them, in one line."""
    template, names = prepared
    found = {}
    with open_world(ParallelConfig(ranks=2)):
        for name, parallel in (("replicated", ParallelConfig()), ("sharded", SHARDED)):
            found[name] = _tried(shutil.copytree(template, tmp_path / name), names, parallel, monkeypatch)
    found["alone"] = _tried(shutil.copytree(template, tmp_path / "alone"), names, None, monkeypatch)
    alone = found["alone"]
    assert len(alone["trial_losses"]) == 8 and alone["trial_losses"][-1] < alone["trial_losses"][0]
    for one in (found["replicated"], found["sharded"]):
        # Muon, at half of its rates without a warm-up, makes more of rounding than a run's first steps do.
        assert one["trial_losses"] == pytest.approx(alone["trial_losses"], abs=1e-3)
        for name in ("held_out", "held_out_in_train", "unreached", "disk_bytes"):
            assert one[name] == alone[name]
    # Each has its own share of rows, and of what is sharded, too.
    assert found["sharded"]["memory_bytes"] < found["replicated"]["memory_bytes"] < alone["memory_bytes"]

    home = shutil.copytree(template, tmp_path / "full")
    with monkeypatch.context() as patch:
        patch.setattr(room.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
        with pytest.raises(ArtifactError, match=r"of disk, and 0\.0 MiB are free"):
            _train(home, names, ParallelConfig(ranks=2))
    assert not _followers(os.getpid())


def _tried(
    home: Path, names: list[str], parallel: ParallelConfig | None, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What was found before a run of 200 steps, of which five are taken."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _interrupt(patch)
        _train(home, names, parallel, steps=200)
    texts = [path.read_text(encoding="utf-8") for path in home.glob("runs/*/events.jsonl")]
    lines = [line for text in texts for line in text.splitlines()]
    (event,) = [event for event in map(json.loads, lines) if event["kind"] == "preflight"]
    return event


def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """This rank's loss of the tenth step is not a number."""
    loss, calls = CausalObjective.loss, []

    def poisoned(self: CausalObjective, arrays: Any) -> Any:
        calls.append(1)
        return loss(self, arrays) * (float("nan") if len(calls) == 10 else 1.0)

    monkeypatch.setattr(CausalObjective, "loss", poisoned)


def _interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """After five steps this rank, and only this one, is asked to stop."""
    step = Loop._step

    def stopping(self: Loop) -> None:
        step(self)
        if self.progress.step == 5:
            self._interrupted.set()

    monkeypatch.setattr(Loop, "_step", stopping)


def _clipped(workspace: Workspace, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another stage and optimiser; gradients are clipped by the norm of all of them, whoever holds which."""
    norms: list[float] = []
    gradients = Loop._gradients

    def recorded(self: Loop) -> tuple[float, float, int]:
        loss, norm, items = gradients(self)
        norms.append(norm)
        return loss, norm, items

    monkeypatch.setattr(Loop, "_gradients", recorded)
    fit = FitConfig(steps=4, batch_rows=8, optimizer="adamw", max_norm=0.05, precision="float32", device="cpu")
    net = NetConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    config = TrainConfig(objective="causal", context_length=32, net=net, fit=fit)
    given: dict[str, Any] = {"tokenizer": workspace.find(names[1]), "config": config, "workspace": workspace}
    corpus = workspace.find(names[0])
    made = [
        train(corpus, parallel=parallel, fresh=True, **given).metrics["loss_curve"]
        for parallel in (None, SHARDED, replace(SHARDED, tensor_ranks=2))
    ]
    whole, *others = (norms[at : at + 4] for at in range(0, 12, 4))
    assert min(whole) > 0.1
    for norm in others:
        assert norm == pytest.approx(whole, rel=1e-4)
    for curve in made[1:]:
        assert [v for _, _, v in curve] == pytest.approx([v for _, _, v in made[0]], abs=ROUNDING_NATS)
