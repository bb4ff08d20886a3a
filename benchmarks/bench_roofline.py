"""One stream's decode against what the memory gives: how near it comes, where the rest goes, and tokens a joule.

    python benchmarks/bench_roofline.py [--sizes 15M,135M] [--weights float32,float16,int8,int4] [--threads 1,2]
        [--rounds 5] [--new 128] [--prompt 32] [--keep]

A token of one stream takes at least as long as its weights take to be read. The memory's rate is the best of many sums
of a tensor of 512 MB by PyTorch, as many threads as the decode has, before each round; random weights of the
sizes of bench_engine, whose matrices and embedding row are the bytes of a token (keys and values, activations and norms
are left out: under a hundredth). Printed are medians over the rounds, in milliseconds a token: the least by the memory;
the products of all matrices alone, one row, in the model's order, by the native code that the step has, less what as
many calls take for a matrix of 32 x 32; the native step's call; the engine around it, as `generate` counts it. The
difference of neighbours is what lies between them: products that read slower than the memory allows; threads that meet,
norms, rotations, attention, gates, logits' sums; Python, sampling and scheduling. A 15M model fits into many
processors' caches, and may then beat its memory. Joules are the engine's own account of the same tokens, by the
machine's counters or estimated, as printed. --keep puts the table into docs/results.md, too.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import runpy
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bloomery.models.native.library import library
from bloomery.models.native.matrix import Matrix
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.native.trial import trial_of

REAL_CALL = NativeDecoder._call
FOLDER = Path(__file__).resolve().parent
ELEMENTS, SUMS = 1 << 27, 5


def reading_rate(numbers: torch.Tensor) -> float:
    """Bytes a second, of the best sum."""
    least = float("inf")
    for _ in range(SUMS):
        began = time.perf_counter()
        numbers.sum()
        least = min(least, time.perf_counter() - began)
    return numbers.nbytes / least


class Measured:
    """One model in one format, with a number of threads."""

    def __init__(self, bench: dict[str, Any], folder: Path, weights: str, options: argparse.Namespace) -> None:
        self.ours = bench["Ours"](folder, weights)
        if not self.ours.path.startswith("native"):
            raise SystemExit(f"skipped: steps in {weights} are not native here: {self.ours.path}")
        self.new, self.prompt, self.threads = options.new, options.prompt, torch.get_num_threads()
        self.calls: list[float] = []
        real = REAL_CALL

        def timed(native: NativeDecoder, step: Any, way: Any) -> None:
            began = time.perf_counter()
            real(native, step, way)
            if step.rows == 1:
                self.calls.append(time.perf_counter() - began)

        NativeDecoder._call = timed
        native = trial_of(self.ours.model.decoder).native
        assert native is not None
        # In the step's order, each with a row to multiply.
        self.matrices = [(one, torch.randn(1, one.inputs)) for one in native.description.matrices]
        self.bytes = sum(matrix.nbytes for matrix, _ in self.matrices)

    def tokens(self) -> tuple[float, float, float | None]:
        """(seconds of a token, of which in the native call, joules of it)."""
        self.calls.clear()
        options = {"max_new_tokens": self.new, "temperature": 0.0, "ignore_eos": True}
        request = self.ours.model.request([5 + i % 200 for i in range(self.prompt)], [options], shares=False)
        *_, (_, last) = self.ours.model.engine.run(request)
        result = last.result
        assert result is not None
        seconds = result.timings.decode_seconds / (self.new - 1)
        self.method = result.decode_energy.method
        joules = result.decode_energy.central
        return seconds, statistics.median(self.calls), joules / (self.new - 1) if joules else None

    def products(self) -> float:
        """Seconds of all products of a token, the median of several times all of them."""
        small = Matrix(library().calls, torch.zeros(32, 32), None, None, 32), torch.zeros(1, 32)
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(12):
            for empty, taken in times.items():
                asked = [small] * len(self.matrices) if empty else self.matrices
                began = time.perf_counter()
                for matrix, row in asked:
                    matrix.multiply(row, self.threads)
                taken.append(time.perf_counter() - began)
        return statistics.median(times[False][2:]) - statistics.median(times[True][2:])


def bench(size: str, weights: str, measured: Measured, rounds: int, numbers: torch.Tensor) -> dict[str, Any]:
    """Print a line for one model in one format; the same as a row, times in seconds."""
    found: dict[str, list[float]] = {name: [] for name in ("rate", "products", "call", "token", "joules")}
    measured.tokens()
    for _ in range(rounds):
        found["rate"].append(max(reading_rate(numbers), reading_rate(numbers)))
        token, call, joules = measured.tokens()
        found["products"].append(measured.products())
        found["token"].append(token)
        found["call"].append(call)
        found["joules"] += [joules] if joules else []
    rate, products, call, token = (statistics.median(found[name]) for name in ("rate", "products", "call", "token"))
    shares = sorted(measured.bytes / pace / one for pace, one in zip(found["rate"], found["token"], strict=True))
    least, energy = measured.bytes / rate, "unknown"
    if found["joules"]:
        energy = f"{1 / statistics.median(found['joules']):.1f} {measured.method}"
    print(
        f"{size:5s} {weights:8s} {measured.threads:7d} {rate / 1e9:6.1f} {measured.bytes / 1e6:7.1f}"
        f" {1e3 * least:8.3f} {1e3 * products:9.3f} {1e3 * call:8.3f} {1e3 * token:8.3f} {1 / token:9.0f}"
        f"   {statistics.median(shares):.0%} ({shares[0]:.0%} to {shares[-1]:.0%})   {energy}",
        flush=True,
    )
    return {
        "size": size,
        "weights": weights,
        "threads": measured.threads,
        "rate": rate,
        "bytes": measured.bytes,
        "least": least,
        "products": products,
        "call": call,
        "token": token,
        "shares": shares,
        "joules": found["joules"],
        "method": measured.method,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="15M,135M")
    parser.add_argument("--weights", default="float32,float16,int8,int4")
    parser.add_argument("--threads", default=str(torch.get_num_threads()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    options = parser.parse_args()
    if library().calls is None:
        raise SystemExit(f"skipped: {library().text}")
    print(f"{platform.machine()}, PyTorch {torch.__version__}, load {os.getloadavg()[0]:.1f}; milliseconds a token")
    columns = "model format   threads   GB/s      MB   memory  products     call   engine  tokens/s"
    print(f"{columns}   of the roofline   tokens/J")
    numbers, engine = torch.ones(ELEMENTS), runpy.run_path(str(FOLDER / "bench_engine.py"))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bloomery-bench-") as home:
        for size in options.sizes.split(","):
            folder = engine["make_folder"](Path(home), size)
            for weights in options.weights.split(","):
                for threads in map(int, options.threads.split(",")):
                    torch.set_num_threads(threads)
                    measured = Measured(engine, folder, weights, options)
                    rows.append(bench(size, weights, measured, options.rounds, numbers))
    if options.keep:
        sys.path.insert(0, str(FOLDER.parent / "experiments"))
        how = {"new": options.new, "prompt": options.prompt, "rounds": options.rounds, "rows": rows}
        given = f"--sizes {options.sizes} --weights {options.weights} --threads {options.threads}"
        importlib.import_module("common").keep("roofline", {**how, "arguments": given})


if __name__ == "__main__":
    main()
