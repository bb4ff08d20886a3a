"""The engine against its peers: decode of eight streams and of one, prefill, the first token; in turn, five pairs.

    python benchmarks/bench_engine.py [--sizes 15M,135M] [--weights float16,int8] [--pairs 5] [--llama PYTHON]
        [--native auto] [--keep]

Random weights of Llama's architecture (15M: 6 layers of 288; 135M: 30 layers of 576), the same for everybody. Ours is
the whole engine: scheduling, sampling, text and log-probabilities included; llama.cpp is its batched decode alone, in
the format of the same width (float16: f16; int8: q8_0), and needs a Python that has `llama_cpp` (--llama, or
BLOOMERY_LLAMA_PYTHON), else its figures are unknown. transformers' `generate` is beside it for one stream. Tokens a
second: 128 new ones after 32 and after 1,024, a prompt of 512 read, and the first token of a prompt of 16 (as 16 over
the time to it, ours from the request to the text). Prints what makes the decode steps (native code or PyTorch:
--native), the median ratio over pairs, and its lowest and highest; --keep puts them into docs/results.md, too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

SIZES: dict[str, dict[str, Any]] = {
    "15M": {"vocab_size": 32000, "hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6}
    | {"num_attention_heads": 6, "num_key_value_heads": 6, "head_dim": 48},
    "135M": {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
    | {"num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64},
}
PEER_TYPES = {"float32": "f32", "float16": "f16", "int8": "q8_0", "int4": "q4_0"}
STREAMS, PROMPT, LONG_PROMPT, NEW, FIRST = 8, 32, 1024, 128, 16


def make_folder(home: Path, size: str) -> Path:
    """A Hugging Face folder of random weights, with a small tokenizer whose vocabulary is padded."""
    from bloomery.models import Decoder, ModelConfig, save_pretrained
    from bloomery.tokenizer.train import TokenizerConfig, learn, write_tokenizer

    folder = home / size
    folder.mkdir()
    write_tokenizer(
        learn(["Once upon a time there was a small furnace. "] * 50, TokenizerConfig(vocab_size=320)), folder
    )
    torch.manual_seed(0)
    config = ModelConfig(
        model_type="llama", max_position_embeddings=2048, tie_word_embeddings=True, eos_token_id=(2,), **SIZES[size]
    )
    model = Decoder(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.05)
    save_pretrained(model, folder)
    return folder


class Ours:
    """The engine with weights in one format."""

    def __init__(self, folder: Path, weights: str, native: str = "auto") -> None:
        from bloomery.engine import EngineConfig, load_language_model

        self.model = load_language_model(folder, device="cpu", weights=weights)
        self.model.set_engine(EngineConfig(native=native))
        self.generate(1, 8, 640)  # native weights come into large pages after 512 steps, while others work
        time.sleep(5.0)
        self.path = self.model.engine.stats().decode_path

    def generate(self, streams: int, prompt: int, new: int) -> float:
        """Tokens a second of decode, of all streams together."""
        options = {"max_new_tokens": new, "temperature": 0.0, "ignore_eos": True}
        rest = [6 + i % 200 for i in range(prompt - 1)]
        requests = [self.model.request([5 + s, *rest], [options]) for s in range(streams)]
        results = [delta.result for _, delta in self.model.engine.run_all(requests) if delta.result is not None]
        steps = max(one.timings.decode_seconds for one in results)
        return streams * (new - 1) / steps

    def prefill(self) -> float:
        options = {"max_new_tokens": 1, "temperature": 0.0}
        request = self.model.request([5 + i % 200 for i in range(512)], [options], shares=False)
        *_, (_, last) = self.model.engine.run(request)
        assert last.result is not None
        return 512 / last.result.timings.prefill_seconds

    def first_token(self) -> float:
        """The best of a few, as the peer's."""
        times = []
        for _ in range(3):
            began = time.perf_counter()
            request = self.model.request(list(range(5, 5 + FIRST)), [{"temperature": 0.0}], shares=False)
            with closing(self.model.engine.run(request)) as deltas:
                next(deltas)
                times.append(time.perf_counter() - began)
        return FIRST / min(times)


def llama(python: str, gguf: Path, streams: int = STREAMS, prompt: int = PROMPT) -> dict[str, float]:
    command = [python, str(Path(__file__).with_name("peer_llama.py")), str(gguf), "--streams", str(streams)]
    command += ["--prompt", str(prompt), "--new", str(NEW), "--threads", str(torch.get_num_threads())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def quantised(python: str, gguf: Path, kind: str) -> Path:
    """The same file in another of llama.cpp's types."""
    target = gguf.with_suffix(f".{kind}.gguf")
    number = {"f16": 1, "q4_0": 2, "q8_0": 7}[kind]
    code = (
        "import llama_cpp as l, sys; p = l.llama_model_quantize_default_params(); p.ftype = int(sys.argv[3]);"
        "p.nthread = 2; assert l.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), p) == 0"
    )
    subprocess.run([python, "-c", code, str(gguf), str(target), str(number)], check=True, capture_output=True)
    return target


def transformers_rate(folder: Path) -> Callable[[], float]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.arange(5, 5 + PROMPT)[None]

    def rate() -> float:
        times = []
        for new in (1, 33):
            began = time.perf_counter()
            model.generate(ids, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
            times.append(time.perf_counter() - began)
        return 32 / (times[1] - times[0])

    return rate


Row = dict[str, Any]


def compare(name: str, pairs: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Row:
    """Print both rates and the median ratio of pairs that were taken one after the other; the same as a row."""
    rates = [(ours(), theirs()) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in rates)
    middle = [statistics.median(column) for column in zip(*rates, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(f"{name:44s} {middle[0]:10,.0f} {middle[1]:10,.0f}   {spread}", flush=True)
    return {"ours": middle[0], "peer": middle[1], "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="15M,135M")
    parser.add_argument("--weights", default="float16,int8")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--native", default="auto", choices=("auto", "on", "off"))
    parser.add_argument("--llama", default=os.environ.get("BLOOMERY_LLAMA_PYTHON", ""))
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    options = parser.parse_args()
    if options.keep and not options.llama:
        parser.error("--keep is of what llama.cpp is beside: --llama")
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    print(f"{'tokens a second':44s} {'ours':>10s} {'peer':>10s}   ratio, lowest to highest")
    with tempfile.TemporaryDirectory(prefix="bloomery-bench-") as home:
        rows = [row for size in options.sizes.split(",") for row in bench_size(Path(home), size, options)]
    if options.keep:
        how = {"threads": torch.get_num_threads(), "pairs": options.pairs, "new": NEW, "rows": rows}
        given = {"arguments": f"--sizes {options.sizes} --weights {options.weights} --pairs {options.pairs}"}
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
        importlib.import_module("common").keep("engine", {**how, **given})


def bench_size(home: Path, size: str, options: argparse.Namespace) -> list[Row]:
    """The rows of one size beside llama.cpp, each with its size, weights and what was measured."""
    from bloomery.engine import export_gguf

    rows: list[Row] = []
    folder = make_folder(home, size)
    gguf = export_gguf(folder, home / f"{size}.gguf", dtype="float32") if options.llama else None
    reference = transformers_rate(folder)
    for weights in options.weights.split(","):
        kind, ours = PEER_TYPES[weights], Ours(folder, weights, options.native)
        print(f"{size} {weights}, decode steps: {ours.path}")
        compare(
            f"{size} {weights}, one stream / transformers",
            options.pairs,
            lambda o=ours: o.generate(1, PROMPT, 33),
            reference,
        )
        if gguf is None:
            rate = ours.generate(STREAMS, PROMPT, NEW)
            print(f"{size} {weights}, {STREAMS} streams / llama.cpp {kind}: {rate:,.0f}, peer unknown (no --llama)")
            continue
        peer = gguf if kind == "f32" else quantised(options.llama, gguf, kind)
        title = f"{size} {weights} / llama.cpp {kind}"
        found = beside_llama(title, ours, peer, options)
        rows += [{"size": size, "weights": weights, "peer_format": kind, **row} for row in found]
    return rows


def beside_llama(title: str, ours: Ours, peer: Path, options: argparse.Namespace) -> list[Row]:
    """The rows of one model in one format."""
    rows: list[Row] = []
    last: dict[str, float] = {}

    def streams(key: str) -> float:
        if key not in last:
            last.update(llama(options.llama, peer))
        return last.pop(key)

    def one(prompt: int) -> float:
        return llama(options.llama, peer, 1, prompt)["decode"]

    def add(what: str, mine: Callable[[], float], theirs: Callable[[], float]) -> None:
        rows.append({"what": what, **compare(f"{title}, {what}", options.pairs, mine, theirs)})
        last.clear()

    add(f"{STREAMS} streams", lambda: ours.generate(STREAMS, PROMPT, NEW), lambda: streams("decode"))
    add("one stream", lambda: ours.generate(1, PROMPT, NEW), lambda: one(PROMPT))
    add("one stream after 1,024", lambda: ours.generate(1, LONG_PROMPT, NEW), lambda: one(LONG_PROMPT))
    add("prefill of 512", ours.prefill, lambda: streams("prefill"))
    add("first token of 16", ours.first_token, lambda: streams("first"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
