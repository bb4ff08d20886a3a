"""What goes wrong on a user's machine ends in one clear line and exit code 2, and nothing is lost.

Each command runs as a process of its own, as its user would run it. The rest of the bad input (binary files, misspelt
keys, busy ports, damaged artifacts) is in tests/unit/cli.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZES = [
    *("tokenizer.vocab_size=300", "pretrain.hidden_size=128", "pretrain.num_hidden_layers=4"),
    *("pretrain.context_length=32", "pretrain.batch_rows=4", "pretrain.precision=float32", "pretrain.steps=40"),
    *("pretrain.checkpoint_every_steps=5", "pretrain.device=cpu"),
]


def _run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bloomery.cli.main", *arguments, "--home", str(home), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


def _one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    rng = random.Random(3)
    for n in range(80):
        (folder / f"{n:02}.txt").write_text(" ".join(f"term{rng.randrange(90)}" for _ in range(80)))
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing(texts: Path, small_disk: Path):
    home = small_disk / "home"
    assert _run("curate", str(texts), home=home).returncode == 0
    sets = [part for item in SIZES for part in ("--set", item)]
    before = _one_line(_run("pretrain", *sets, home=home))
    assert "of disk" in before and "free some space" in before  # said before the first step
    line = _one_line(_run("pretrain", "--no-preflight", *sets, home=home))
    assert "No space left" in line or "disk is full" in line
    # With room, the same command goes on from the last good checkpoint, if one fitted, and ends well.
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert _run("pretrain", *sets, home=home).returncode == 0
    assert _run("runs", "verify", home=home).returncode == 0
    ended = _run("runs", "--json", home=home)
    assert ended.returncode == 0 and '"failed"' in ended.stdout


def test_a_truncated_shard(texts: Path, tmp_path: Path):
    home = tmp_path / "home"
    sets = [part for item in SIZES for part in ("--set", item)]
    assert _run("curate", str(texts), home=home).returncode == 0
    shard = next((home / "artifacts").glob("corpus-*/train-00000.jsonl.zst"))
    shard.write_bytes(shard.read_bytes()[:-100])
    line = _one_line(_run("pretrain", *sets, home=home))
    assert "train-00000.jsonl.zst" in line and "bytes" in line


def test_a_read_only_home(texts: Path, small_disk: Path):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = _one_line(_run("curate", str(texts), home=small_disk / "home"))
    assert "read-only" in line.lower()
