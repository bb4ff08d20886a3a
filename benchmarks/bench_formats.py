"""What lighter weights cost in quality, beside llama.cpp's formats of the same width, on the same weights and tokens.

    python benchmarks/bench_formats.py MODEL TEXT --calibrate TEXT --llama PYTHON [--home HOME] [--windows 128]
        [--questions 400] [--keep]

MODEL is a decoder (a folder, or an artifact of --home) that llama.cpp can read; --calibrate a text that is not TEXT,
for our fitted integers. Windows of 256 tokens, spread over TEXT, are read by our engine, keys and values as it keeps
them beside such weights, and by llama.cpp from a GGUF file of the same model. Printed: bits per byte of the windows
(but for their first token) and what is lost over float32, each side beside its own, with a 95% interval over windows
(Student's t); of questions "which of four passages of 16 tokens follows these 48?", all from TEXT, the share that is
answered right, by the likelihood of the passage; bytes of the file. --keep puts the table into docs/results.md, too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

WINDOW, CONTEXT, PASSAGE, CHOICES, AT_ONCE = 256, 48, 16, 4, 32
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 7, "q4_k": 14}
QUANTIZE = (
    "import llama_cpp as l, sys; p = l.llama_model_quantize_default_params(); p.ftype = int(sys.argv[3]);"
    "assert l.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), p) == 0"
)
Reader = Callable[[list[list[int]]], list[list[float]]]
"""Rows of ids -> natural logarithms of the probability of each but the first."""


def ours(folder: Path, weights: str | None) -> Reader:
    """Our engine, the prompt's log-probabilities."""
    from bloomery.engine import load_language_model

    model = load_language_model(folder, device="cpu", weights=weights)

    def read(rows: list[list[int]]) -> list[list[float]]:
        options, found = {"max_new_tokens": 0, "prompt_logprobs": 0}, []
        for start in range(0, len(rows), AT_ONCE):
            requests = [model.request(row, [options], shares=False) for row in rows[start : start + AT_ONCE]]
            results = {place: delta.result for place, delta in model.engine.run_all(requests) if delta.result}
            found += [[one.logprob for one in results[place].prompt_logprobs[1:]] for place in sorted(results)]
        return found

    return read


def llama(python: str, gguf: Path) -> Reader:
    """llama.cpp with a file."""

    def read(rows: list[list[int]]) -> list[list[float]]:
        with tempfile.TemporaryDirectory() as place:
            source, target = Path(place) / "rows.json", Path(place) / "out.json"
            source.write_text(json.dumps(rows))
            script = Path(__file__).with_name("peer_llama_text.py")
            subprocess.run([python, str(script), str(gguf), str(source), str(target)], check=True)
            return json.loads(target.read_text())

    return read


def questions(ids: Sequence[int], count: int) -> list[list[list[int]]]:
    """For each question its rows, the right one first: a context, and a passage after it."""
    draw, found = random.Random(0), []
    last = len(ids) - CONTEXT - PASSAGE
    for _ in range(count):
        start = draw.randrange(last)
        places = [start + CONTEXT, *(draw.randrange(last) for _ in range(CHOICES - 1))]
        found.append([[*ids[start : start + CONTEXT], *ids[place : place + PASSAGE]] for place in places])
    return found


class Measure:
    """Windows and questions of one text, read by several models."""

    def __init__(self, ids: Sequence[int], windows: int, count: int, decode: Callable[[list[int]], str]) -> None:
        step = max(WINDOW, (len(ids) - WINDOW) // max(1, windows))
        starts = range(0, len(ids) - WINDOW + 1, step)
        self.rows = [list(ids[start : start + WINDOW]) for start in starts][:windows]
        self.bytes = np.array([len(decode(row[1:]).encode()) for row in self.rows])
        self.questions = questions(ids, count)

    def of(self, read: Reader) -> tuple[np.ndarray, float]:
        """(bits per byte of each window, share of right answers)."""
        bits = np.array([-sum(row) for row in read(self.rows)]) / np.log(2) / self.bytes
        scores = read([row for question in self.questions for row in question])
        likely = np.array([sum(row[CONTEXT - 1 :]) for row in scores]).reshape(-1, CHOICES)
        return bits, float((likely.argmax(axis=1) == 0).mean())


Row = dict[str, Any]


def row_of(name: str, size: int, bits: np.ndarray, right: float, plain: np.ndarray | None, weights: np.ndarray) -> Row:
    """What is told of a format. Means over bytes; the interval is of the windows' differences."""
    row: Row = {"format": name, "bytes": size, "bits": float((bits * weights).sum() / weights.sum()), "right": right}
    if plain is not None:
        change = bits - plain
        low, high = stats.t.interval(0.95, len(change) - 1, change.mean(), stats.sem(change) or 1e-300)
        row |= {"lost": float((change * weights).sum() / weights.sum()), "low": float(low), "high": float(high)}
    return row


def show(row: Row) -> None:
    """A line."""
    lost = f"{row['lost']:+.5f} ({row['low']:+.5f} to {row['high']:+.5f})" if "lost" in row else ""
    print(f"{row['format']:24s} {row['bytes']:12,d} {row['bits']:9.5f}   {lost:34s} {row['right']:6.1%}", flush=True)


def formats(folder: Path, place: Path, calibrate: str, python: str) -> list[tuple[str, Path, Reader]]:
    """(name, its file or folder, reader), float32 of each side first."""
    from bloomery.engine import export_gguf
    from bloomery.engine.exchange import export_model

    step = max(4000, len(calibrate) // 256)
    samples = [calibrate[start : start + 4000] for start in range(0, len(calibrate), step)]
    found: list[tuple[str, Path, Reader]] = [
        (f"ours {name}", folder, ours(folder, name)) for name in ("float32", "float16", "int8", "int4")
    ]
    for kind in ("int8", "int8-groups", "int4") if calibrate else ():
        fitted = export_model(folder, place / f"{kind}-fitted", quantize=kind, calibrate=samples)
        found.append((f"ours {kind}, fitted", fitted, ours(fitted, None)))
    if python:
        gguf = export_gguf(folder, place / "model.gguf", dtype="float32")
        for kind, number in TYPES.items():
            file = gguf if kind == "f32" else place / f"{kind}.gguf"
            if file != gguf:
                subprocess.run([python, "-c", QUANTIZE, gguf, file, str(number)], check=True, capture_output=True)
            found.append((f"llama.cpp {kind}", file, llama(python, file)))
    return found


def size_of(path: Path) -> int:
    """Bytes of weights on disk."""
    return path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.glob("*.safetensors"))


def config_line(folder: Path) -> str:
    """The model in words."""
    from bloomery.models import load_pretrained

    decoder = load_pretrained(folder)
    config, count = decoder.config, sum(one.numel() for one in decoder.parameters())
    return f"{config.num_hidden_layers} layers x {config.hidden_size}, {count / 1e6:.1f} million parameters"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--calibrate", type=Path)
    parser.add_argument("--home")
    parser.add_argument("--windows", type=int, default=128)
    parser.add_argument("--questions", type=int, default=400)
    parser.add_argument("--llama", default=os.environ.get("BLOOMERY_LLAMA_PYTHON", ""))
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    options = parser.parse_args()
    from bloomery.engine.finding import find_model
    from bloomery.tokenizer import Tokenizer

    source, name = find_model(options.model, options.home)
    with tempfile.TemporaryDirectory(prefix="bloomery-bench-") as home:
        folder = Path(home) / "model"
        shutil.copytree(source, folder)
        tokenizer = Tokenizer.load(folder)
        ids = tokenizer.encode(options.text.read_text(encoding="utf-8"))
        measure = Measure(ids, options.windows, options.questions, tokenizer.decode)
        calibrate = "" if options.calibrate is None else options.calibrate.read_text(encoding="utf-8")
        print(f"{name}: {len(measure.rows)} windows of {WINDOW} tokens, {len(measure.questions)} questions")
        print(f"{'format':24s} {'file bytes':>12s} {'bits/byte':>9s}   {'lost over float32':34s} {'right':>6s}")
        plain: dict[str, np.ndarray] = {}
        rows: list[Row] = []
        for label, path, read in formats(folder, Path(home), calibrate, options.llama):
            bits, right = measure.of(read)
            side = label.split()[0]
            rows.append(row_of(label, size_of(path), bits, right, plain.get(side), measure.bytes))
            show(rows[-1])
            plain.setdefault(side, bits)
        parameters = config_line(folder)
    if options.keep:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
        how = {"model": parameters, "window": WINDOW, "windows": len(measure.rows), "questions": options.questions}
        importlib.import_module("common").keep("formats", {**how, "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
