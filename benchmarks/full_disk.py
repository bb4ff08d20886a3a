"""A disk that is full when a checkpoint is due: the run goes on or ends with one line, and nothing is lost.

    python benchmarks/full_disk.py [--rounds 6]          # Linux; as root, or where users may have namespaces

The workspace lies on a small tmpfs, mounted in a namespace of its own. While the model of `kill_train.py` is trained, a
file takes all the room that is left: at once with the first checkpoint, a little later each round, or all but a little
room, so that notes fit and checkpoints do not. Then the file goes and the same call runs again. Checked: no traceback,
the newest checkpoint is sound while the disk is full, and the end is the straight run's, to the bit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from bloomery.training import PretrainConfig, checkpoint
from kill_train import copy, plant, prepare, start, state

_INSIDE = "BLOOMERY_FULL_DISK"
_CONFIG = PretrainConfig(
    steps=48,
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


def fill(path: Path, *, leave: int) -> None:
    """Write a file until the disk is full, then give back `leave` bytes."""
    size = 0
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                size += file.write(b"\0" * 65536)
        except OSError:
            pass
        os.ftruncate(file.fileno(), max(0, size - leave))


def one_round(home: Path, names: tuple[str, str, str], wait: int, leave: int) -> tuple[str, str]:
    """(what the run said with a full disk, what was wrong)."""
    log = home.parent.parent / "said.txt"  # not on the disk that is full
    with log.open("w") as said:
        before = os.dup(2)
        os.dup2(said.fileno(), 2)
        pid = start(home, names, _CONFIG)
        os.dup2(before, 2)
        os.close(before)
        while not list(home.glob("scratch/pretrain-*/checkpoints/step-*")):
            time.sleep(0.005)
        time.sleep(0.02 * wait)
        fill(home / "filler", leave=leave)
        _, status = os.waitpid(pid, 0)
    text = log.read_text()
    wrong = "a traceback" if "Traceback" in text else ""
    folders = list(home.glob("scratch/pretrain-*/checkpoints"))
    if status and (not folders or checkpoint.latest(folders[0]) is None):
        wrong = "no sound checkpoint"
    (home / "filler").unlink()
    ended = "it ended by itself" if not status else "stopped: " + " ".join(text.split())[:150]
    return ended, wrong


def inside(rounds: int) -> int:
    torch.set_num_threads(1)
    plant({}, _CONFIG.batch_rows)
    with tempfile.TemporaryDirectory() as root:
        template = Path(root) / "template"
        names = prepare(template)
        straight = copy(template, Path(root) / "straight")
        os.waitpid(start(straight, names, _CONFIG), 0)
        expected = state(straight)
        size = sum(path.stat().st_size for path in straight.rglob("*") if path.is_file()) + 8_000_000
        for number in range(rounds):
            disk = Path(root) / f"disk-{number}"
            disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
            home = copy(template, disk / "home")
            leave = 100_000 if number % 2 else 0
            ended, wrong = one_round(home, names, number, leave)
            _, status = os.waitpid(start(home, names, _CONFIG), 0)
            found = None if status else state(home)
            print(f"round {number + 1}, {leave:,} bytes left: {ended}", flush=True)
            # A run that published and could not say so is known by its artifact; its scratch waits for `runs gc`.
            same = found is not None and found[:2] == expected[:2]
            subprocess.run(["umount", "--lazy", str(disk)], check=True)
            if wrong or not same:
                print(wrong or f"different: exit {status}, {found} where {expected} was wanted")
                return 1
    print(f"{rounds} full disks: nothing lost, all ends equal")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    if os.environ.get(_INSIDE):
        return inside(given.rounds)
    command = ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv]
    return subprocess.run(command, env={**os.environ, _INSIDE: "1"}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
