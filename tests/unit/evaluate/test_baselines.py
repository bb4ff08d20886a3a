"""Baselines against the tools and sums that they stand for."""

from __future__ import annotations

import lzma
import math
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bloomery.evaluate.baselines import byte_ngram, compressors, split_texts, token_unigram
from bloomery.evaluate.ngram import WittenBell, symbols
from bloomery.tokenizer import TokenShards


def test_compressors_are_the_tools(tmp_path: Path):
    texts = [f"document {n}: the quick brown fox {n * n}\n".encode() * 20 for n in range(30)]
    results = {b.name: b for b in compressors(texts)}
    size = sum(map(len, texts))
    joined = b"\x00".join(texts)
    (tmp_path / "text").write_bytes(joined)
    for name, command in (("xz -9", ["xz", "-9", "-c"]), ("zstd -19", ["zstd", "-19", "-c", "--no-check", "-q"])):
        if shutil.which(command[0]) is None:
            continue
        packed = subprocess.run([*command, str(tmp_path / "text")], capture_output=True, check=True).stdout
        # Container details (a checksum, a size field) may differ by a few bytes.
        assert results[name].bits_per_byte * size / 8 == pytest.approx(len(packed), abs=24)
    assert results["xz -9"].bits_per_byte == 8 * len(lzma.compress(joined, preset=9)) / size


def test_unigram_by_hand(made):
    tokenizer = made.loaded.tokenizer
    got = token_unigram(made.tokens, tokenizer)
    counts: Counter[int] = Counter()
    train, test = TokenShards(made.tokens, "train"), TokenShards(made.tokens, "test")
    for i in range(train.num_documents):
        counts.update(train.document(i).tolist())
    total = sum(counts.values()) + tokenizer.vocab_size
    bits = -sum(
        math.log2((counts[t] + 1) / total) for i in range(test.num_documents) for t in test.document(i).tolist()
    )
    size = sum(len(text) for text in split_texts(made.corpus, "test"))
    assert test.text_bytes == size
    assert got.bits_per_byte == pytest.approx(bits / size, rel=1e-9)


def test_ngram_sees_the_training_split_only(made):
    texts = split_texts(made.corpus, "test")
    expected = WittenBell(symbols(split_texts(made.corpus, "train")), order=3).bits_per_byte(texts)
    got = byte_ngram(made.corpus, texts, order=3)
    assert got.bits_per_byte == expected and got.name == "3-gram (bytes, Witten-Bell)"
