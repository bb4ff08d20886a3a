"""A comparison under SIGKILL at random instants ends with the verdict and the answers of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = int(os.environ.get("BLOOMERY_KILLS", "6"))
_PROJECT = Path(__file__).resolve().parents[2]
_TINY = runpy.run_path(str(_PROJECT / "tests" / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    _TINY(folder / "model", context=512)
    rng = random.Random(0)
    rows = [{"input": f"{rng.choice(('iron', 'wood'))} {n}", "target": rng.choice(("yes", "no"))} for n in range(150)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "documents.jsonl").write_text('{"text": "Iron is smelted."}\n{"text": "Wood burns."}\n', encoding="utf-8")
    (folder / "task.toml").write_text(
        'samples = "rows.jsonl"\ndocuments = "documents.jsonl"\nchoices = ["yes", "no"]\nmax_new_tokens = 4\n'
        'arms = ["majority", "zero-shot", "few-shot", "rag", "lora"]\n'
        '[model]\nname = "model"\n[split]\nmax_train = 40\nmax_dev = 20\nmax_test = 25\n',
        encoding="utf-8",
    )
    return folder / "task.toml"


def _start(task: Path, home: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bloomery", "compare", str(task), "--home", str(home), "--json", "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _result(process: subprocess.Popen[str]) -> dict[str, object]:
    out, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    told = json.loads(out)
    answers = {}
    for arm in told["result"]["arms"]:
        lines = (Path(told["path"]) / arm["answers"]).read_text(encoding="utf-8").splitlines()
        answers[arm["name"]] = [(row["id"], row["answer"], row["score"]) for row in map(json.loads, lines)]
    return {"verdict": told["result"]["verdict"], "opened": told["result"]["opened_before"], "answers": answers}


@pytest.mark.timeout(1800)
def test_killed_comparisons_end_the_same(task: Path, tmp_path: Path):
    began = time.perf_counter()
    expected = _result(_start(task, tmp_path / "straight"))
    lasted = time.perf_counter() - began
    rng = random.Random(KILLS)
    home = tmp_path / "killed"
    for _ in range(KILLS):
        process = _start(task, home)
        time.sleep(rng.uniform(0.3, 0.8) * lasted)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert "Traceback" not in errors, errors
    assert _result(_start(task, home)) == expected
    assert _result(_start(task, home)) == expected
