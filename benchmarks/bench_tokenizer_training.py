"""Training a tokenizer whose words are counted first: time and the most memory, at two sizes of text.

    python benchmarks/bench_tokenizer_training.py [--megabytes 30,300] [--max-words N] [--kind bpe] [--whole]

The text is real, again and again, with a new word by chance after every 180 characters, so that there are
ever more different words: with --max-words few enough, the tables go to disk. Each size is a process of its own, whose
resident memory is looked at twenty times a second; what it holds before it begins is printed too. Memory that does not
grow with the text is the same at both sizes. --whole learns from the text itself, in which it does grow.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil

from bloomery.tokenizer.config import TokenizerConfig
from bloomery.tokenizer.train import learn

ROOT = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
PIECE = 1 << 14
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def texts(size: int) -> Iterator[str]:
    """Pieces of text, `size` bytes of it in all."""
    names = ("wikitext2_valid", "botchan_en", "wagahaiwa_ja", "gatsby")
    whole = "\n".join(lzma.decompress((ROOT / "text" / f"{name}.txt.xz").read_bytes()).decode() for name in names)
    rng, made = random.Random(5), 0
    while made < size:
        for start in range(0, len(whole), PIECE):
            piece, parts = whole[start : start + PIECE], list[str]()
            for place in range(0, len(piece), 180):
                parts += [piece[place : place + 180], " ", "".join(rng.choices(LETTERS, k=8)), " "]
            text = "".join(parts)
            yield text
            made += len(text.encode())
            if made >= size:
                return


def child(size: int, config: TokenizerConfig) -> None:
    """One training; prints JSON: what was resident before, seconds, what was counted."""
    facts: dict[str, int] = {}
    before = psutil.Process().memory_info().rss
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        backend = learn(texts(size), config, folder=Path(folder), facts=facts.update)
    facts |= {"before": before, "vocab_size": backend.get_vocab_size()}
    print(json.dumps({"seconds": time.perf_counter() - began, **facts}))


def measure(size: int, arguments: list[str]) -> None:
    command = [sys.executable, __file__, "--child", str(size), *arguments]
    most = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                most = max(most, watched.memory_info().rss)
            except psutil.Error:
                break
            time.sleep(0.05)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(f"the training of {size:,} bytes failed")
    told = json.loads(output)
    print(
        f"{size / 1e6:,.0f} MB: most memory {most / 1e6:,.0f} MB ({told['before'] / 1e6:,.0f} before it began),"
        f" {told['seconds']:,.0f} s, {told.get('occurrences', 0):,} words, learnt from {told.get('words', 0):,},"
        f" {told.get('spills', 0)} tables on disk, {told['vocab_size']:,} tokens",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", default="30,300")
    parser.add_argument("--max-words", type=int, default=100_000)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--kind", choices=("bpe", "unigram", "wordpiece", "word"), default="bpe")
    parser.add_argument("--whole", action="store_true", help="learn from the text itself (bpe)")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        config = TokenizerConfig(
            kind=given.kind, vocab_size=given.vocab_size, count_first=not given.whole, max_words=given.max_words
        )
        child(given.child, config)
        return
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}", end="")
    print(f", tokenizers {version('tokenizers')}, {given.kind}, at most {given.max_words:,} words in memory")
    passed = ["--max-words", str(given.max_words), "--vocab-size", str(given.vocab_size), "--kind", given.kind]
    for megabytes in given.megabytes.split(","):
        measure(round(float(megabytes) * 1e6), [*passed, *(["--whole"] if given.whole else [])])


if __name__ == "__main__":
    main()
