"""Ranks and trials on a real Ray, of this machine: what local processes make, and what is said when a rank dies.

Losses of equal steps may differ as in `test_ranks`: two local ranks and two of Ray's add in the same order, but Ray may
give them another number of threads.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from bloomery.cli.main import main
from bloomery.core.errors import DataError, TrainingError
from bloomery.core.events import Event
from bloomery.core.ray_cluster import ray_cluster
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import ParallelConfig, PretrainConfig, pretrain
from bloomery.training.parallel import ray_ranks
from bloomery.training.sweep import study
from bloomery.training.sweep.trial_process import TrialThread

KILLING = pytest.mark.skipif(int(os.environ.get("BLOOMERY_KILLS", "1")) < 2, reason="make kills: as long as the rest")
ROUNDING_NATS = 5e-5
KILLED_AT = 8
CONFIG = PretrainConfig(
    steps=16,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    context_length=16,
    batch_rows=4,
    precision="float32",
    compile="off",
    checkpoint_every_steps=3,
    validations=1,
    device="cpu",
)
DYING = f"""
import os, pathlib, signal
from bloomery.training import ray_rank
from bloomery.training.loop import Loop

step = Loop._step

def dying(self):
    step(self)
    if self.progress.step == {KILLED_AT} and os.environ["RANK"] == "1" and not lived.exists():
        lived.touch()
        os.kill(os.getpid(), signal.SIGKILL)

def take_part(job, voice):
    global lived
    lived = pathlib.Path(job["root"]) / "lived"
    Loop._step = dying
    ray_rank.take_part(job, voice)
"""
RECIPE = """
[curate]
sources = ["{texts}"]
validation_fraction = 0.2
decontaminate_words = 0
[tokenizer]
vocab_size = 300
[pretrain]
steps = 20
hidden_size = 32
num_hidden_layers = 1
context_length = 16
batch_rows = 2
precision = "float32"
compile = "off"
device = "cpu"
validations = 0
[sweep]
sampler = "grid"
stop = "hopeless"
[sweep.dials]
"pretrain.learning_rate_scale" = [1.0, 0.000001]
"""

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:subprocess \d+ is still running:ResourceWarning"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray(\.|$)"),
    pytest.mark.filterwarnings(r"ignore::FutureWarning:ray(\.|$)"),
    pytest.mark.timeout(900),
    pytest.mark.slow,
]


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One for the file, of two processors; nothing of it is left over. Its processes find the module `dying_rank`."""
    pytest.importorskip("ray")
    before = set(psutil.Process().children(recursive=True))
    folder = tmp_path_factory.mktemp("modules")
    (folder / "dying_rank.py").write_text(DYING)
    said = ""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))
        try:
            stack.enter_context(ray_cluster(2, lost="", instead=""))
        except DataError as error:
            said = error.one_line()
        else:
            yield
    gc.collect()
    _, alive = psutil.wait_procs(set(psutil.Process().children(recursive=True)) - before, timeout=60)
    assert [one.cmdline() for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    if said:
        pytest.skip(f"Ray does not start on this machine: {said}")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("texts"), random.Random(0)
    words = [f"word{n}" for n in range(100)]
    for n in range(30):
        (folder / f"{n:03}.txt").write_text(" ".join(rng.choice(words) for _ in range(rng.randrange(20, 100))))
    return folder


@pytest.mark.parametrize("restarts", [pytest.param(0, marks=KILLING), 1])
def test_two_ranks_of_ray_learn_what_two_local_ones_do_and_go_on_when_one_dies(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: int
):
    """Rank 1 is killed once; Ray starts both again, or the same call does."""
    template, heard = Workspace(tmp_path / "local"), list[Event]()
    corpus = curate([str(texts)], config=CurateConfig(decontaminate_words=0), workspace=template)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=300), workspace=template)
    tokens = tokenize(corpus, tokenizer, workspace=template)
    template.close_ledger()
    shutil.copytree(tmp_path / "local", tmp_path / "ray")

    def train(home: str, parallel: ParallelConfig):
        given = {"tokens": tokens, "config": CONFIG, "parallel": parallel}
        return pretrain(corpus, tokenizer, **given, workspace=Workspace(tmp_path / home, listeners=[heard.append]))

    local = train("local", ParallelConfig(ranks=2))
    ray = ParallelConfig(ranks=2, engine="ray", restarts=restarts)
    heard.clear()
    monkeypatch.setattr(ray_ranks, "WORKER", "dying_rank")
    if not restarts:
        with pytest.raises(TrainingError) as caught:
            train("ray", ray)
        assert caught.value.message == "rank 1 has ended: its process died"
        assert "run the same command again" in caught.value.hint
        assert max(event.data["step"] for event in heard if event.kind == "curve") == KILLED_AT
    made = train("ray", ray)
    assert [event.data["step"] for event in heard if event.kind == "resume"] == [KILLED_AT // 3 * 3]
    assert made.metrics["resumed"] and made.metrics["ranks"] == 2
    assert made.metrics["packing"] == local.metrics["packing"]
    curves = [[v for _, _, v in (*m.metrics["loss_curve"], *m.metrics["validation_curve"])] for m in (made, local)]
    assert len(curves[0]) > CONFIG.steps and curves[0] == pytest.approx(curves[1], abs=ROUNDING_NATS)
    runs = Workspace(tmp_path / "ray").ledger.runs(stage="pretrain")
    assert [run["state"] for run in runs] == ["finished", "failed"]
    assert all(run["energy_joules"]["central"] > 0 for run in runs)
    assert not list((tmp_path / "ray" / "scratch").glob("ray-*"))


def test_trials_of_ray_come_to_what_local_ones_do(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("optuna")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(texts=texts))
    reports = []
    for engine in ("local", "ray"):
        monkeypatch.setattr(study, "TrialProcess", TrialThread)  # without the seconds that a process takes to begin
        assert main(["sweep", str(path), "--home", str(tmp_path / engine), "--engine", engine, "--json"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    local, ray = ([{**trial, "value": None} for trial in report["trials"]] for report in reports)
    kept = ("number", "values", "state", "share")
    assert [{key: row[key] for key in kept} for row in ray] == [{key: row[key] for key in kept} for row in local]
    assert {row["state"] for row in ray} == {"finished", "stopped"}
    assert reports[1]["best"]["value"] == pytest.approx(reports[0]["best"]["value"], abs=1e-3)
    workspace = Workspace(tmp_path / "ray")
    runs = workspace.ledger.runs(stage="pretrain")
    spent = sum(run["energy_joules"]["central"] for run in runs)
    assert len(runs) == 2 and reports[1]["joules"]["central"] == pytest.approx(spent)
    assert reports[1]["saved"] > 0
    assert not list(workspace.scratch.glob("pretrain-*/checkpoints"))
