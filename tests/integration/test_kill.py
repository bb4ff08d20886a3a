"""SIGKILL at random instants: the resumed run ends with bit-equal weights, and nothing is left corrupt.

BLOOMERY_KILLS sets how many (6 in the ordinary suite; `make kills` takes fifty).
"""

from __future__ import annotations

import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.workspace import Workspace

_PREPARE = runpy.run_path(str(Path(__file__).parents[1] / "prepared_workspace.py"))["prepare"]
KILLS = int(os.environ.get("BLOOMERY_KILLS", "6"))
_TRAIN = """
import sys
import bloomery as bl
from bloomery.core.workspace import Workspace
from bloomery.training import PretrainConfig, pretrain
home, corpus, tokenizer, tokens = sys.argv[1:]
ws = Workspace(home)
config = PretrainConfig(steps=60, hidden_size=64, num_hidden_layers=2, context_length=32, batch_rows=8, micro_rows=4,
                        precision="float32", checkpoint_every_steps=3, validations=3, device="cpu",
                        learning_rate_scale=1.0)
print("ready", flush=True)
made = pretrain(ws.find(corpus), ws.find(tokenizer), tokens=ws.find(tokens), config=config, workspace=ws)
print(made.id, flush=True)
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A workspace with corpus, tokenizer and tokens, and their names."""
    return _PREPARE(tmp_path_factory.mktemp("kill"), documents=120)


def _start(home: Path, names: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _TRAIN, str(home), *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, errors = process.communicate(timeout=240)
    return (out.split()[-1] if process.returncode == 0 else ""), errors


@pytest.mark.timeout(3600)
def test_killed_runs_end_bit_equal(prepared: tuple[Path, list[str]], tmp_path: Path):
    template, names = prepared
    straight = tmp_path / "straight"
    shutil.copytree(template, straight)
    began = time.perf_counter()
    process = _start(straight, names)
    assert process.stdout is not None and process.stdout.readline().strip() == "ready"
    ready_after = time.perf_counter() - began
    expected, errors = _finish(process)
    assert expected, errors
    lasted = time.perf_counter() - began - ready_after
    rng = random.Random(KILLS)
    kills, finished, home = 0, 0, tmp_path / "killed-0"
    shutil.copytree(template, home)
    while kills < KILLS or not finished:
        process = _start(home, names)
        if kills < KILLS:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 1.1 * lasted))
            process.send_signal(signal.SIGKILL)
            ended = process.wait()
            kills += ended == -signal.SIGKILL
            assert process.stderr is not None
            message = process.stderr.read()
            process.stdout.close()
            process.stderr.close()
            assert "Traceback" not in message, message
        got = _published(home)
        if kills >= KILLS and not got:
            identity, errors = _finish(_start(home, names) if process.poll() is not None else process)
            assert identity, errors
            got = identity
        if got:
            assert got == expected
            _check_consistent(home)
            finished += 1
            home = tmp_path / f"killed-{finished}"
            shutil.copytree(template, home)
    print(f"{kills} kills, {finished} runs finished, all bit-equal")


def _published(home: Path) -> str:
    workspace = Workspace(home)
    rows = workspace.ledger.artifacts(kind="model")
    workspace.ledger.close()
    return rows[0]["id"] if rows else ""


def _check_consistent(home: Path) -> None:
    """Every artifact is sound; every run has ended; exactly one attempt finished; attempts are paid for."""
    workspace = Workspace(home)
    for folder in workspace.artifacts.iterdir():
        Artifact.open(folder)
    assert not workspace.ledger.unfinished()
    attempts = workspace.ledger.runs(stage="pretrain")
    assert [a["state"] for a in attempts].count("finished") == 1
    model = workspace.latest("model")
    assert model.manifest["failed_attempts"] == len(attempts) - 1
    assert not list(workspace.scratch.glob("pretrain-*/"))
    workspace.ledger.close()
