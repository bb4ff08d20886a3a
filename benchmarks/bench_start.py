"""From the start of a process to the first token of a model that is in the file cache: ours, and llama.cpp's.

    python benchmarks/bench_start.py [--sizes 15M,135M] [--weights plain,float16,int8] [--starts 7] [--llama PYTHON]
        [--keep]

Each start is a process of its own: `bloomery generate` of one token after a prompt of 16, timed from before it is
started to the first byte of its answer: once more from the image that the first start kept, and without images (by
PyTorch). In turn with Python that imports torch and ends, which is the least that a command on PyTorch takes here, and
with Python that has `llama_cpp` (--llama, or BLOOMERY_LLAMA_PYTHON), loads the same model as a GGUF file and decodes
the same prompt. Random weights of the sizes of bench_engine, in float32 ("plain"), or exported as --quantize and GGUF
of the same width say. Prints medians, the least and the most, in seconds, of all but the first start of each, which
fills the file cache, and in ours tries native code and keeps the image: that one stands behind, with how long it took
to its end. Exit code 1 if the median of ours at 135M is 1.5 s or more. --keep puts the seconds into docs/results.md.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
BAR = 1.5
PROMPT = "Once upon a time there was a small furnace. Once upon a time"
GGUF = {"plain": "float32", "float16": "float16"}
PEER = """
import os, sys
import llama_cpp as ll
model = ll.Llama(sys.argv[1], n_ctx=256, n_threads=os.cpu_count(), verbose=False)
model.eval([5 + i % 200 for i in range(16)])
print(model.sample(temp=0.0), flush=True)
"""


Taken = tuple[float, float]
"""Seconds from the start of a command to the first byte that it prints, and to its end."""


def start(command: list[str], settings: dict[str, str]) -> Taken:
    """SystemExit where it fails."""
    began = time.perf_counter()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env={**os.environ, **settings}, **pipes) as process:
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - began
        said = process.communicate()[1]
    if process.returncode or not first:
        raise SystemExit(f"{command[0]}: {said.decode(errors='replace')[-500:]}")
    return seconds, time.perf_counter() - began


def commands(folder: Path, place: Path, weights: str, llama: str) -> dict[str, tuple[list[str], dict[str, str]]]:
    """What is started, by name, and its settings."""
    from bloomery.engine import export_gguf
    from bloomery.engine.exchange import export_model

    model = folder
    if weights != "plain":
        model = export_model(folder, place / f"{folder.name}-{weights}", quantize=weights)
    ours = [sys.executable, "-m", "bloomery", "generate", PROMPT, "--model", str(model), "--max-new-tokens", "1"]
    found = {
        "import torch": ([sys.executable, "-c", "import torch; print(1, flush=True)"], {}),
        "bloomery": ([*ours, "--temperature", "0"], {}),
        "without image": ([*ours, "--temperature", "0"], {"BLOOMERY_IMAGES": "off"}),
    }
    if llama and weights in GGUF:
        gguf = export_gguf(folder, place / f"{folder.name}-{weights}.gguf", dtype=GGUF[weights])
        found["llama.cpp"] = ([llama, "-c", PEER, str(gguf)], {})
    return found


def compare(
    title: str, asked: dict[str, tuple[list[str], dict[str, str]]], starts: int
) -> tuple[dict[str, list[float]], Taken]:
    """Print a line for each, and return the seconds of all but the first starts, and what our first took."""
    taken: dict[str, list[Taken]] = {name: [] for name in asked}
    for _ in range(1 + starts):
        for name, command in asked.items():
            taken[name].append(start(*command))
    for name, both in taken.items():
        seconds = [first for first, _ in both[1:]]
        spread = f"{statistics.median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
        print(f"{title:14s} {name:13s} {spread}; the first {both[0][0]:.2f}, its end {both[0][1]:.2f}", flush=True)
    return {name: [first for first, _ in both[1:]] for name, both in taken.items()}, taken["bloomery"][0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="15M,135M")
    parser.add_argument("--weights", default="plain,float16,int8")
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--llama", default=os.environ.get("BLOOMERY_LLAMA_PYTHON", ""))
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    options = parser.parse_args()
    bench, rows = runpy.run_path(str(FOLDER / "bench_engine.py")), list[dict[str, Any]]()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="bloomery-start-") as home:
        os.environ["BLOOMERY_HOME"], os.environ["XDG_CACHE_HOME"] = str(Path(home) / "home"), str(Path(home) / "cache")
        for size in options.sizes.split(","):
            folder = bench["make_folder"](Path(home), size)
            for weights in options.weights.split(","):
                asked = commands(folder, Path(home), weights, options.llama)
                seconds, first = compare(f"{size} {weights}", asked, options.starts)
                rows.append({"size": size, "weights": weights, "seconds": seconds, "first": first})
    if options.keep:
        sys.path.insert(0, str(FOLDER.parent / "experiments"))
        importlib.import_module("common").keep("start", {"starts": options.starts, "bar": BAR, "rows": rows})
    late = [row for row in rows if row["size"] == "135M" and statistics.median(row["seconds"]["bloomery"]) >= BAR]
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
