"""Encoding against tiktoken: the same rank files, the same text, in turn; prints the ratio of times.

    python benchmarks/bench_tokenize.py [--passes N] [--threads 1,2] [--megabytes N]

For cl100k, o200k and GPT-2's ranks: tiktoken's `encode_ordinary` (with threads `encode_ordinary_batch`) against what
`bloomery tokenize` calls, and against the `tokenizers` library, which it falls back on. Every pass asks both for the
same texts, one after the other, and the ids are compared. With one thread it is processor time, with several the
clock's. Above 1.00 ours is faster. Texts: web pages, encyclopaedia, a Japanese novel, utterances in 51 languages.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import tiktoken
from tiktoken_ext import openai_public

from bloomery.tokenizer import Tokenizer
from bloomery.tokenizer.fast import FastEncoder
from bloomery.tokenizer.tiktoken_file import read_ranks

ROOT = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
RANKS = {
    "cl100k_base": "cl100k_base.tiktoken.xz",
    "o200k_base": "o200k_base.tiktoken.gz",
    "r50k_base": "r50k_base.tiktoken.xz",
}
Encode = Callable[[list[str]], list[list[int]]]


def read(*parts: str) -> str:
    return lzma.decompress(ROOT.joinpath(*parts).read_bytes()).decode()


def texts(megabytes: float) -> list[str]:
    """Documents of the real data, again and again until there are so many bytes."""
    found = [json.loads(line)["text"] for line in read("text", "c4_demo.jsonl.xz").splitlines()]
    found += [read("text", f"{name}.txt.xz") for name in ("wiki_demo", "wikitext2_valid", "wagahaiwa_ja")]
    for path in sorted((ROOT / "massive").glob("*.tsv.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            found.append("\n".join(line.rstrip("\n").split("\t")[-1] for line in islice(lines, 200)))
    size = sum(len(text.encode()) for text in found)
    return found * max(1, round(megabytes * 1e6 / size))


def encodings(name: str) -> tuple[Tokenizer, tiktoken.Encoding]:
    """Ours out of the file and tiktoken's own description of it, its download replaced by the file."""
    packed = (ROOT / "tokenizers" / RANKS[name]).read_bytes()
    data = (lzma if RANKS[name].endswith("xz") else gzip).decompress(packed)
    openai_public.load_tiktoken_bpe = lambda *_, **__: read_ranks(data, name)  # type: ignore[assignment]
    return Tokenizer({f"{name}.tiktoken": data}, source=name), tiktoken.Encoding(**getattr(openai_public, name)())


def seconds(encode: Encode, documents: list[str], clock: Callable[[], float]) -> tuple[float, list[list[int]]]:
    began = clock()
    ids = encode(documents)
    return clock() - began, ids


def compare(name: str, threads: int, documents: list[str], passes: int) -> None:
    tokenizer, reference = encodings(name)
    fast = FastEncoder(tokenizer, threads=threads)

    def theirs(given: list[str]) -> list[list[int]]:
        if threads == 1:
            return [reference.encode_ordinary(text) for text in given]
        return reference.encode_ordinary_batch(given, num_threads=threads)

    clock = time.process_time if threads == 1 else time.perf_counter
    ratios: dict[str, list[float]] = {"ours": [], "tokenizers": []}
    rate = 0.0
    for _ in range(1 + passes):
        took, expected = seconds(theirs, documents, clock)
        for label, encode in (("ours", fast.encode_batch), ("tokenizers", tokenizer.encode_batch)):
            mine, ids = seconds(encode, documents, clock)
            ratios[label].append(took / mine)
            if ids != expected:
                sys.exit(f"{name}: {label} gives other ids than tiktoken")
        rate = sum(map(len, expected)) / took
    line = [
        f"{name}, {threads} thread{'s' if threads > 1 else ''}: tiktoken {rate / 1e6:.2f}M tokens/s; tiktoken / ours"
    ]
    for label, found in ratios.items():
        kept = found[1:]
        line += [f"{label} {statistics.median(kept):.2f} ({min(kept):.2f} to {max(kept):.2f})"]
    print(line[0], ", ".join(line[1:]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--megabytes", type=float, default=8.0)
    options = parser.parse_args()
    documents = texts(options.megabytes)
    size = sum(len(text.encode()) for text in documents)
    versions = ", ".join(f"{name} {version(name)}" for name in ("tiktoken", "tokenizers"))
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {versions}")
    print(f"{len(documents)} documents, {size / 1e6:.1f} MB, {options.passes} passes after a first; ids compared")
    for threads in map(int, options.threads.split(",")):
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "false" if threads == 1 else "true"
        for name in RANKS:
            compare(name, threads, documents, options.passes)


if __name__ == "__main__":
    main()
