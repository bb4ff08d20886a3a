"""The engine against its peers: decode of eight streams and of one, prefill, the first token; in turn, five pairs.

    python benchmarks/bench_engine.py [--sizes 15M,135M] [--weights float16,int8] [--pairs 5] [--llama PYTHON]
        [--native auto]

Random weights of Llama's architecture (15M: 6 layers of 288; 135M: 30 layers of 576), the same for everybody. Ours is
the whole engine: scheduling, sampling, text and log-probabilities included; llama.cpp is its batched decode alone, in
the format of the same width (float16: f16; int8: q8_0), and needs a Python that has `llama_cpp` (--llama, or
BLOOMERY_LLAMA_PYTHON), else its figures are unknown. transformers' `generate` is beside it for one stream. Tokens a
second: 128 new ones after 32 and after 1,024, a prompt of 512 read, and the first token of a prompt of 16 (as 16 over
the time to it, ours from the request to the text). Prints what makes the decode steps (native code or PyTorch:
--native), the median ratio over pairs, and its lowest and highest.
"""

from __future__ import annotations

import argparse
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
        self.generate(1, 8, 8)
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


def compare(name: str, pairs: int, ours: Callable[[], float], theirs: Callable[[], float]) -> None:
    """Print both rates and the median ratio of pairs that were taken one after the other."""
    rates = [(ours(), theirs()) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in rates)
    middle = [statistics.median(column) for column in zip(*rates, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(f"{name:44s} {middle[0]:10,.0f} {middle[1]:10,.0f}   {spread}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="15M,135M")
    parser.add_argument("--weights", default="float16,int8")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--native", default="auto", choices=("auto", "on", "off"))
    parser.add_argument("--llama", default=os.environ.get("BLOOMERY_LLAMA_PYTHON", ""))
    options = parser.parse_args()
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    print(f"{'tokens a second':44s} {'ours':>10s} {'peer':>10s}   ratio, lowest to highest")
    with tempfile.TemporaryDirectory(prefix="bloomery-bench-") as home:
        for size in options.sizes.split(","):
            bench_size(Path(home), size, options)


def bench_size(home: Path, size: str, options: argparse.Namespace) -> None:
    from bloomery.engine import export_gguf

    folder = make_folder(home, size)
    gguf = export_gguf(folder, home / f"{size}.gguf", dtype="float32") if options.llama else None
    reference = transformers_rate(folder)
    for weights in options.weights.split(","):
        ours = Ours(folder, weights, options.native)
        print(f"{size} {weights}, decode steps: {ours.path}")
        compare(
            f"{size} {weights}, one stream / transformers",
            options.pairs,
            lambda o=ours: o.generate(1, PROMPT, 33),
            reference,
        )
        kind = PEER_TYPES[weights]
        if gguf is None:
            rate = ours.generate(STREAMS, PROMPT, NEW)
            print(f"{size} {weights}, {STREAMS} streams / llama.cpp {kind}: {rate:,.0f}, peer unknown (no --llama)")
            continue
        peer = gguf if kind == "f32" else quantised(options.llama, gguf, kind)
        last: dict[str, float] = {}

        def theirs(key: str, peer: Path = peer, last: dict[str, float] = last) -> float:
            if key not in last:
                last.update(llama(options.llama, peer))
            return last.pop(key)

        title = f"{size} {weights} / llama.cpp {kind}"
        streams = lambda o=ours: o.generate(STREAMS, PROMPT, NEW)  # noqa: E731
        compare(f"{title}, {STREAMS} streams", options.pairs, streams, lambda: theirs("decode"))
        last.clear()
        one = lambda o=ours: o.generate(1, PROMPT, NEW)  # noqa: E731
        compare(f"{title}, one stream", options.pairs, one, lambda p=peer: llama(options.llama, p, 1)["decode"])
        long = lambda o=ours: o.generate(1, LONG_PROMPT, NEW)  # noqa: E731
        after = lambda p=peer: llama(options.llama, p, 1, LONG_PROMPT)["decode"]  # noqa: E731
        compare(f"{title}, one stream after 1,024", options.pairs, long, after)
        last.clear()
        compare(f"{title}, prefill of 512", options.pairs, ours.prefill, lambda: theirs("prefill"))
        last.clear()
        compare(f"{title}, first token of 16", options.pairs, ours.first_token, lambda: theirs("first"))


if __name__ == "__main__":
    sys.exit(main())
